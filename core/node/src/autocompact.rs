//! Compaction of history without being asked (etcd's `--auto-compaction-mode`), on the leader only.
//!
//! `periodic` keeps a window of time: revisions are sampled ten times a window, and the one that was
//! current a window ago is compacted, at intervals of the window but at least hourly. `revision` keeps a
//! number of revisions and looks every five minutes.

use std::collections::VecDeque;
use std::time::Duration;

use quorate_kv::Revision;

use crate::AutoCompaction;
use crate::limits::{AUTO_COMPACTION_CHECK, AUTO_COMPACTION_MAX_INTERVAL};

const SAMPLES_PER_INTERVAL: u32 = 10;

/// The schedule and its memory; volatile, as etcd's is.
#[derive(Debug)]
pub(crate) struct AutoCompactor {
    mode: AutoCompaction,
    next_check: Duration,
    last_compaction: Duration,
    samples: VecDeque<(Duration, Revision)>,
}

impl AutoCompactor {
    pub(crate) fn new(mode: AutoCompaction) -> Self {
        let (next_check, last_compaction) = (Duration::ZERO, Duration::ZERO);
        Self { mode, next_check, last_compaction, samples: VecDeque::new() }
    }

    /// When to look again; `None` when it is off.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        (self.mode != AutoCompaction::Off).then_some(self.next_check)
    }

    /// The revision to compact to now, if any.
    pub(crate) fn check(&mut self, now: Duration, current: Revision) -> Option<Revision> {
        if now < self.next_check {
            return None;
        }
        match self.mode {
            AutoCompaction::Off => None,
            AutoCompaction::Revisions(keep) => {
                self.next_check = now + AUTO_COMPACTION_CHECK;
                let target = current.0 - keep;
                (target > 0).then_some(Revision(target))
            }
            AutoCompaction::Periodic(window) => self.check_window(now, current, window),
        }
    }

    fn check_window(
        &mut self,
        now: Duration,
        current: Revision,
        window: Duration,
    ) -> Option<Revision> {
        let interval = window.min(AUTO_COMPACTION_MAX_INTERVAL);
        self.next_check = now + interval / SAMPLES_PER_INTERVAL;
        self.samples.push_back((now, current));
        let mut old = None;
        while let Some((at, revision)) = self.samples.front().copied() {
            if at + window > now {
                break;
            }
            old = Some(revision);
            self.samples.pop_front();
        }
        if let Some(revision) = old {
            // Back in front: it stays the newest sample that is at least a window old.
            self.samples.push_front((now.saturating_sub(window), revision));
        }
        if now < self.last_compaction + interval {
            return None;
        }
        old.inspect(|_| self.last_compaction = now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_is_kept() {
        let minute = Duration::from_secs(60);
        let mut compactor = AutoCompactor::new(AutoCompaction::Periodic(10 * minute));
        let mut compacted = Vec::new();
        for step in 0..60_u32 {
            let now = minute * step;
            compacted.extend(compactor.check(now, Revision(i64::from(step))).map(|r| (step, r.0)));
        }
        assert_eq!(compacted, vec![(10, 0), (20, 10), (30, 20), (40, 30), (50, 40)]);
    }

    #[test]
    fn last_revisions_are_kept() {
        let mut compactor = AutoCompactor::new(AutoCompaction::Revisions(100));
        assert_eq!(compactor.check(Duration::from_secs(1), Revision(50)), None);
        assert_eq!(compactor.check(Duration::from_secs(2), Revision(500)), None, "not yet");
        let later = Duration::from_secs(400);
        assert_eq!(compactor.check(later, Revision(500)), Some(Revision(400)));
    }
}
