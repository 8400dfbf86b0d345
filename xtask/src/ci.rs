//! `ci`: everything that must pass, in one run, without editing a file.
//!
//! A step is a check, which counts as one, or a run of tests, whose counts are read from what it
//! prints. Each step runs even if an earlier one failed, so that one run tells all. At the end
//! stand the suites that were skipped, with their reasons, and the line `N passed, N failed`.

mod counts;

use crate::peers::Peers;
use crate::{sh, sim, tidy};
use anyhow::Result;
use counts::Counts;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Seeds that every run simulates.
const SEEDS: &str = "0..200";
/// The crate that needs real servers, and protoc to be built.
const E2E: &str = "quorate-e2e";

/// What a run of CI has found so far.
#[derive(Debug, Default)]
struct Report {
    counts: Counts,
    failed_steps: Vec<&'static str>,
}

/// Runs all steps.
pub(crate) fn run() -> Result<ExitCode> {
    let begun = Instant::now();
    let mut report = Report::default();
    report.check("format", &mut sh::cargo(&["fmt", "--all", "--check"]));
    report.step("tidy", |_| tidy::run().map(|()| Counts::one_passed()));
    for missing in Peers::in_tree().all() {
        report.counts.skip(format!("peer {}: {:#}", missing.name, missing.why));
    }
    let e2e = has_protoc();
    if !e2e {
        report.counts.skip(format!("{E2E}: it cannot be built without protoc (see e2e/protoc)"));
    }
    let exclude: &[&str] = if e2e { &[] } else { &["--exclude", E2E] };
    let clippy = ["clippy", "--workspace", "--all-targets"];
    report.check("clippy", sh::cargo(&clippy).args(exclude).args(["--", "-D", "warnings"]));
    let tests = ["test", "--workspace", "--no-fail-fast", "--exclude", E2E];
    report.tests("tests", &mut sh::cargo(&tests));
    let doc = ["doc", "--workspace", "--no-deps", "--quiet"];
    report.check("docs", sh::cargo(&doc).args(exclude).env("RUSTDOCFLAGS", "-D warnings"));
    report.simulate();
    if e2e {
        let e2e = ["test", "--package", E2E, "--no-fail-fast"];
        report.tests("e2e", &mut sh::cargo(&e2e));
    }
    println!("\nCI took {} s", begun.elapsed().as_secs());
    Ok(report.close())
}

impl Report {
    /// Runs one step. If it fails to run at all, that is one failure.
    fn step(&mut self, name: &'static str, run: impl FnOnce(&mut Self) -> Result<Counts>) {
        println!("\n== {name}");
        let begun = Instant::now();
        let counts = run(self).unwrap_or_else(|error| {
            println!("{name} failed: {error:#}");
            Counts::one_failed()
        });
        let secs = begun.elapsed().as_secs();
        println!("== {name}: {} passed, {} failed, {secs} s", counts.passed, counts.failed);
        if counts.failed > 0 {
            self.failed_steps.push(name);
        }
        self.counts.add(counts);
    }

    /// A step that passes or fails as a whole.
    fn check(&mut self, name: &'static str, command: &mut Command) {
        self.step(name, |_| sh::run(command).map(|()| Counts::one_passed()));
    }

    /// A step that prints the counts of its tests.
    fn tests(&mut self, name: &'static str, command: &mut Command) {
        self.step(name, |_| {
            let mut counts = Counts::default();
            let passed = sh::watch(command, |line| counts.read(line))?;
            counts.settle(passed);
            Ok(counts)
        });
    }

    /// The simulator's seeds, once its binary knows how to run some.
    fn simulate(&mut self) {
        self.step("simulation", |report| {
            // That it does not compile is a failure; that it has no seeds yet is not.
            if sh::output(&mut sim::command(&["--help"]))?.contains("--seeds") {
                sh::run(&mut sim::command(&["--seeds", SEEDS])).map(|()| Counts::one_passed())
            } else {
                report.counts.skip("simulation: the binary has no --seeds".to_owned());
                Ok(Counts::default())
            }
        });
    }

    /// The last lines; the very last holds the counts alone, whatever the outcome.
    fn close(self) -> ExitCode {
        for skipped in &self.counts.skipped {
            println!("skipped: {skipped}");
        }
        if !self.failed_steps.is_empty() {
            println!("failed steps: {}", self.failed_steps.join(", "));
        }
        println!("{} passed, {} failed", self.counts.passed, self.counts.failed);
        if self.counts.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Whether the crates that want protoc can be built.
fn has_protoc() -> bool {
    let own = std::env::var_os("PROTOC");
    let protoc = own.unwrap_or_else(|| sh::root().join("e2e/protoc").into());
    sh::output(Command::new(protoc).arg("--version")).is_ok()
}
