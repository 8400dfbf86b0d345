//! What happened, line by line if asked for, and always as one number: two runs of a seed must agree.

use crate::queue::Time;

/// The trace of a run.
#[derive(Debug, Default)]
pub struct Trace {
    on: bool,
    text: String,
    fingerprint: u64,
}

impl Trace {
    /// A trace that keeps its lines, or not.
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self { on, text: String::new(), fingerprint: 0xcbf2_9ce4_8422_2325 }
    }

    /// Something happened that these numbers tell.
    pub fn mark(&mut self, now: Time, numbers: &[u64]) {
        for number in std::iter::once(&now.0).chain(numbers) {
            self.fingerprint = (self.fingerprint ^ number).wrapping_mul(0x0000_0100_0000_01b3);
            self.fingerprint ^= self.fingerprint >> 29;
        }
    }

    /// A line for people; not made unless wanted.
    pub fn line(&mut self, now: Time, line: impl FnOnce() -> String) {
        if self.on {
            self.text.push_str(&format!("{now} {}\n", line()));
        }
    }

    /// All lines.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A hash of everything that was marked.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}
