//! Compaction that nobody asked for keeps the history that it promised: a window of time, or a number of
//! revisions (etcd's `--auto-compaction-retention`).
//!
//! What a client asked for stands in the history; every other compaction of the committed log is an
//! automatic one. Time is the leader's: its clock may be fast, and a jump explains everything.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_node::AutoCompaction;

use crate::queue::Time;

/// What was compacted, and what had to stay.
#[derive(Debug, Default)]
pub struct Compaction {
    mode: AutoCompaction,
    fast_ppm: u64,
    asked: BTreeSet<i64>,
    last_jump: Option<Time>,
    /// When each revision was there first, from revision 2 on.
    reached: Vec<Time>,
    known: Vec<(Time, i64)>,
    automatic: u64,
}

impl Compaction {
    /// Compaction as the servers are configured; the fastest clock gains `fast_ppm`, in millionths.
    #[must_use]
    pub fn new(mode: AutoCompaction, fast_ppm: u64) -> Self {
        Self { mode, fast_ppm, ..Self::default() }
    }

    /// A client asks for it.
    pub fn asked(&mut self, revision: i64) {
        self.asked.insert(revision);
    }

    /// Some server's clock jumped forward.
    pub fn clock_jumped(&mut self, at: Time) {
        self.last_jump = Some(at);
    }

    /// The store has reached `revision`.
    pub fn reached(&mut self, at: Time, revision: i64) {
        while (self.reached.len() as i64) < revision - 1 {
            self.reached.push(at);
        }
    }

    /// If servers compact by themselves: every compaction, and when it was applied first. A client's whose
    /// answer is unknown, or that was refused, may have been one of theirs.
    #[must_use]
    pub fn known(&self) -> &[(Time, i64)] {
        &self.known
    }

    /// How often history was compacted without being asked.
    #[must_use]
    pub fn automatic(&self) -> u64 {
        self.automatic
    }

    /// History before `revision` is gone, at a time when the store stood at `current`.
    ///
    /// # Errors
    /// Nobody asked for it, and some of that was promised to stay.
    pub fn compacted(&mut self, at: Time, revision: i64, current: i64) -> Result<(), String> {
        if self.mode != AutoCompaction::Off {
            self.known.push((at, revision));
        }
        if self.asked.contains(&revision) {
            return Ok(());
        }
        self.automatic += 1;
        match self.mode {
            AutoCompaction::Off => Err(format!("nobody asked for compaction to {revision}")),
            AutoCompaction::Revisions(keep) if revision + keep > current => Err(format!(
                "compacted to {revision} at revision {current}, {keep} revisions are to stay"
            )),
            AutoCompaction::Revisions(_) => Ok(()),
            AutoCompaction::Periodic(window) => self.check_window(at, revision, window),
        }
    }

    fn check_window(&self, at: Time, revision: i64, window: Duration) -> Result<(), String> {
        let first = usize::try_from(revision - 2).ok().and_then(|at| self.reached.get(at));
        let Some(first) = first else { return Ok(()) }; // revision 1 was always there
        let passed = at.0 - first.0;
        let measured = passed + passed * self.fast_ppm / 1_000_000 + 1_000;
        if self.last_jump >= Some(*first) || u128::from(measured) >= window.as_micros() {
            return Ok(());
        }
        Err(format!(
            "compacted to {revision}, which is {passed} us old; a window of {window:?} is to stay"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asked_for_is_caught() {
        let mut check = Compaction::new(AutoCompaction::Off, 0);
        check.asked(5);
        assert!(check.compacted(Time(1), 5, 9).is_ok());
        assert!(check.compacted(Time(1), 6, 9).is_err());
        assert_eq!((check.automatic(), check.known()), (1, &[][..]));
    }

    #[test]
    fn too_few_revisions_are_caught() {
        let mut check = Compaction::new(AutoCompaction::Revisions(10), 0);
        assert!(check.compacted(Time(1), 5, 15).is_ok());
        assert!(check.compacted(Time(1), 6, 15).is_err());
        assert_eq!(check.known(), [(Time(1), 5), (Time(1), 6)]);
    }

    #[test]
    fn a_window_too_short_is_caught_unless_a_clock_explains_it() {
        let window = AutoCompaction::Periodic(Duration::from_secs(10));
        let check = |fast_ppm, jump: Option<u64>, at| {
            let mut check = Compaction::new(window, fast_ppm);
            check.reached(Time::from_ms(1_000), 2);
            check.reached(Time::from_ms(5_000), 4);
            jump.into_iter().for_each(|ms| check.clock_jumped(Time::from_ms(ms)));
            check.compacted(Time::from_ms(at), 4, 9)
        };
        assert!(check(0, None, 15_000).is_ok());
        assert!(check(0, None, 14_990).is_err());
        assert!(check(50_000, None, 14_600).is_ok(), "a fast clock");
        assert!(check(0, Some(6_000), 9_000).is_ok(), "a jump");
        assert!(check(0, Some(4_000), 9_000).is_err(), "a jump before");
        let mut first = Compaction::new(window, 0);
        assert!(first.compacted(Time(1), 1, 9).is_ok(), "revision 1 was always there");
    }
}
