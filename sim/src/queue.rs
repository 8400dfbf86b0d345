//! Simulated time and what is due in it: one queue for the whole world.
//!
//! Things due at the same microsecond come out in the order in which they were put in, so that a run
//! depends on nothing but its seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

/// Simulated true time since the start, in microseconds. No server can read it; each has its own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// So many milliseconds after the start.
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        Self(ms * 1_000)
    }

    /// Later by so many microseconds.
    #[must_use]
    pub fn after_us(self, us: u64) -> Self {
        Self(self.0 + us)
    }

    /// Later by so many milliseconds.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0 + ms * 1_000)
    }

    /// Whole milliseconds since the start.
    #[must_use]
    pub fn ms(self) -> u64 {
        self.0 / 1_000
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

#[derive(Debug)]
struct Due<E> {
    at: Time,
    order: u64,
    event: E,
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<E> Eq for Due<E> {}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Events by the time at which they are due.
#[derive(Debug)]
pub struct Queue<E> {
    now: Time,
    order: u64,
    due: BinaryHeap<Reverse<Due<E>>>,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { now: Time::default(), order: 0, due: BinaryHeap::new() }
    }
}

impl<E> Queue<E> {
    /// The time of the event that came out last.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Puts an event in, never before now.
    pub fn at(&mut self, at: Time, event: E) {
        self.order += 1;
        self.due.push(Reverse(Due { at: at.max(self.now), order: self.order, event }));
    }

    /// Puts an event in, so many microseconds from now.
    pub fn after_us(&mut self, us: u64, event: E) {
        self.at(self.now.after_us(us), event);
    }

    /// Takes the next event out and moves time on to it.
    pub fn pop(&mut self) -> Option<E> {
        let Reverse(due) = self.due.pop()?;
        assert!(due.at >= self.now, "simulated time goes forward");
        self.now = due.at;
        Some(due.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_by_time_and_then_by_order() {
        let mut queue = Queue::default();
        queue.at(Time(5), "c");
        queue.at(Time(3), "a");
        queue.at(Time(3), "b");
        assert_eq!([queue.pop(), queue.pop()], [Some("a"), Some("b")]);
        queue.at(Time(1), "late");
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some("late"), Some("c"), None]);
        assert_eq!(queue.now(), Time(5));
    }
}
