//! The wire probe against the golden transcript of etcd 3.5.30.
//!
//! `conformance/README` of the project's shared material: four runs of etcd gave identical output, so
//! each differing line is ours to explain. The only explanations are in `conformance/not-built.txt`
//! (lines left out) and `conformance/differs.txt` (pairs of lines, and why).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use quorate_e2e::process::Process;
use quorate_e2e::server::Server;
use quorate_e2e::tools::{Kind, binary, own, python, skip};

const LIMIT: Duration = Duration::from_secs(120);

fn conformance(file: &str) -> PathBuf {
    own().join("conformance").join(file)
}

fn read(file: &str) -> String {
    let path = conformance(file);
    std::fs::read_to_string(path).expect("a file of this repository")
}

/// The lines of a list, without its explanations.
fn list(file: &str) -> Vec<String> {
    let text = read(file);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

fn prefixes() -> Vec<String> {
    list("not-built.txt")
}

/// The one line that depends on more than behaviour: the printed length of a header varies with the
/// number of digits of the member's id, which comes from its address.
const PRINTED_LENGTH: &str = "[put 1.5M-200] OK ok";

fn masked(line: &str) -> &str {
    if line.starts_with(PRINTED_LENGTH) { PRINTED_LENGTH } else { line }
}

fn is_left_out(line: &str, prefixes: &[String]) -> bool {
    prefixes.iter().any(|prefix| line.starts_with(prefix.as_str()))
}

/// Lines only in `golden` (`-`) and only in `found` (`+`), by a longest common subsequence.
fn difference(golden: &[&str], found: &[&str]) -> Vec<String> {
    let mut common = vec![vec![0_usize; found.len() + 1]; golden.len() + 1];
    for (i, left) in golden.iter().enumerate().rev() {
        for (j, right) in found.iter().enumerate().rev() {
            common[i][j] = match left == right {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < golden.len() || j < found.len() {
        if i < golden.len() && j < found.len() && golden[i] == found[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == found.len() || i < golden.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(format!("- {}", golden[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", found[j]));
            j += 1;
        }
    }
    lines
}

fn run_probe(python: &Path, server: &Server) -> Result<String> {
    let mut command = Command::new(python);
    command.arg(conformance("wire_probe.py")).arg(server.endpoint()).arg("--skip=auth,snapshot");
    let mut probe = Process::spawn("wire_probe.py", command)?;
    let status = probe.wait(LIMIT)?;
    anyhow::ensure!(status.success(), "the probe stopped ({status}):\n{}", probe.tail());
    Ok(probe.stdout())
}

#[test]
fn every_line_is_etcds() -> Result<()> {
    let Some(python) = python() else {
        skip("probe", "no Python with aetcd: cargo xtask peers");
        return Ok(());
    };
    let server = Server::start(&[])?;
    let output = run_probe(&python, &server)?;
    let (golden, prefixes) = (read("golden-3.5.30.txt"), prefixes());
    let built = |text: &'static str| -> Vec<&'static str> {
        text.lines().filter(|line| !is_left_out(line, &prefixes)).map(masked).collect()
    };
    let (golden, output): (&'static str, &'static str) = (golden.leak(), output.leak());
    let differing = difference(&built(golden), &built(output));
    let ours = binary()?.kind == Kind::Quorate;
    let explained = if ours { list("differs.txt") } else { Vec::new() };
    assert_eq!(differing, explained, "left: differs from etcd 3.5.30; right: explained");
    if ours {
        no_prefix_is_built(&prefixes, golden, output);
    }
    Ok(())
}

/// Each prefix of the list still hides a difference.
fn no_prefix_is_built(prefixes: &[String], golden: &str, output: &str) {
    for prefix in prefixes {
        let lines = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| line.starts_with(prefix.as_str()));
            lines.map(str::to_owned).collect()
        };
        assert_ne!(lines(golden), lines(output), "{prefix} is built: take it off the list");
    }
}

#[test]
fn the_list_of_what_is_not_built_names_lines_of_the_golden_transcript() {
    let golden = read("golden-3.5.30.txt");
    for prefix in prefixes() {
        let used = golden.lines().any(|line| line.starts_with(&prefix));
        assert!(used, "'{prefix}' matches no golden line");
    }
}

#[test]
fn a_difference_names_both_sides() {
    let found = difference(&["a", "b", "c"], &["a", "x", "c", "d"]);
    assert_eq!(found, ["- b", "+ x", "+ d"]);
    assert!(difference(&["a", "b"], &["a", "b"]).is_empty());
}
