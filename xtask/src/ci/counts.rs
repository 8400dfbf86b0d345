//! Counts of tests, read from what Rust's test harness prints, and the suites that were skipped.

/// How many tests passed and failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Passed.
    pub(super) passed: u64,
    /// Failed.
    pub(super) failed: u64,
    /// What did not run, and why; each once.
    pub(super) skipped: Vec<String>,
}

impl Counts {
    /// A check that passed.
    pub(super) fn one_passed() -> Self {
        Self { passed: 1, ..Self::default() }
    }

    /// A check that failed.
    pub(super) fn one_failed() -> Self {
        Self { failed: 1, ..Self::default() }
    }

    /// Notes a suite that did not run.
    pub(super) fn skip(&mut self, what: String) {
        if !self.skipped.contains(&what) {
            self.skipped.push(what);
        }
    }

    /// Adds the counts of a step.
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        other.skipped.into_iter().for_each(|s| self.skip(s));
    }

    /// Takes in one line of a step's output.
    pub(super) fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += before(result, " passed").unwrap_or(0);
            self.failed += before(result, " failed").unwrap_or(0);
        } else if let Some((_, what)) = line.split_once("skipped: ") {
            // The harness may print the name of a running test in front of it.
            self.skip(what.trim().to_owned());
        }
    }

    /// A step that failed without a failed test (it did not compile, a binary died) is a failure.
    pub(super) fn settle(&mut self, exit_code_was_0: bool) {
        if !exit_code_was_0 && self.failed == 0 {
            self.failed = 1;
        }
    }
}

/// The number in front of `word`.
fn before(text: &str, word: &str) -> Option<u64> {
    text.split_once(word)?.0.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Counts {
        let mut counts = Counts::default();
        lines.iter().for_each(|l| counts.read(l));
        counts
    }

    #[test]
    fn results_add_up() {
        let counts = read(&[
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        ]);
        assert_eq!((counts.passed, counts.failed), (7, 2));
    }

    #[test]
    fn a_skipped_suite_is_named_once() {
        let counts = read(&[
            "skipped: netns: not root",
            "test netns ... skipped: netns: not root",
            "skipped: disk_full: no loop device",
        ]);
        assert_eq!(counts.skipped, ["netns: not root", "disk_full: no loop device"]);
    }

    #[test]
    fn a_step_that_dies_fails() {
        let settled = |mut counts: Counts, ok| {
            counts.settle(ok);
            counts.failed
        };
        assert_eq!(settled(Counts::default(), false), 1);
        assert_eq!(settled(Counts { failed: 3, ..Counts::default() }, false), 3);
        assert_eq!(settled(Counts::one_passed(), true), 0);
    }
}
