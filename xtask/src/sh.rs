//! Running programs: from the root of the workspace, without standard input, with their words
//! passed on as they come.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the workspace. Cargo says at run time whose xtask it runs; what was compiled in is for a binary
/// that is run by hand only, since clones in several places may share a target directory.
pub(crate) fn root() -> PathBuf {
    let said = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let own = said.filter(|own| own.ends_with("xtask"));
    let own = own.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    own.parent().expect("xtask lies below the root").to_owned()
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    // A relative one is relative to the directory in which cargo runs, which is the root here.
    root().join(set.unwrap_or_else(|| "target".into()))
}

/// A cargo command.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs to the end. An exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = describe(command);
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(())
}

/// Runs silently and gives standard output. On failure the error holds standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let tail = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no reason given");
        bail!("{name}: {}: {tail}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs, prints each line of standard output at once and hands it to `look`. Returns whether the
/// exit code was 0.
pub(crate) fn watch(command: &mut Command, mut look: impl FnMut(&str)) -> Result<bool> {
    let name = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let stdout = child.stdout.take().context("standard output was asked for")?;
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        look(text.trim_end());
        line.clear();
    }
    Ok(child.wait()?.success())
}

/// The program's name and its arguments, for messages.
fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name =
        program.file_name().unwrap_or_else(|| command.get_program()).to_string_lossy().into_owned();
    let arguments = command.get_args().map(|a| a.to_string_lossy().into_owned());
    [name].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_why() {
        let error = output(Command::new("sh").args(["-c", "echo no luck >&2; exit 3"]));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("exit status: 3") && text.contains("no luck"), "{text}");
    }

    #[test]
    fn lines_are_seen_and_the_exit_code_too() {
        let mut seen = Vec::new();
        let ok = watch(Command::new("sh").args(["-c", "printf 'a\\nb'; exit 1"]), |l| {
            seen.push(l.to_owned());
        });
        assert_eq!((seen, ok.unwrap()), (vec!["a".to_owned(), "b".to_owned()], false));
    }
}
