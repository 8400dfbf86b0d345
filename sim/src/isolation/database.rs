//! A participant's database, small enough to be seen through: rows of numbers, what is reserved of them, locks,
//! and changes that are not committed.

use std::collections::{BTreeMap, BTreeSet};

/// One piece of a transaction's work in one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Reads a row, and remembers it.
    Read(&'static str),
    /// Counts the rows, and remembers it.
    Count,
    /// Makes a row this.
    Set(&'static str, i64),
    /// Adds to a row.
    Add(&'static str, i64),
    /// Makes a row what was remembered and so much more.
    SetRemembered(&'static str, i64),
    /// A new row.
    Insert(&'static str, i64),
    /// Has a reason to say no.
    Refuse,
}

impl Work {
    fn row(self) -> Option<&'static str> {
        match self {
            Self::Set(row, _) | Self::Add(row, _) | Self::SetRemembered(row, _) => Some(row),
            Self::Insert(row, _) => Some(row),
            Self::Read(_) | Self::Count | Self::Refuse => None,
        }
    }
}

/// How a piece of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    /// Done; what was read, if it was a read.
    Done(Option<i64>),
    /// Refused.
    Refused,
    /// Somebody's lock is in the way.
    Blocked,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Database {
    pub(super) rows: BTreeMap<&'static str, i64>,
    /// Reading takes locks, too: on the row, or on all of them.
    is_serializable: bool,
    write_locks: BTreeMap<&'static str, String>,
    read_locks: BTreeMap<&'static str, BTreeSet<String>>,
    /// What each transaction would change: row and value.
    pending: BTreeMap<String, Vec<(&'static str, i64)>>,
    /// What each transaction has reserved: row and amount.
    reserved: BTreeMap<String, Vec<(&'static str, i64)>>,
    /// Before-images of what was committed at once.
    undo: BTreeMap<String, Vec<(&'static str, Option<i64>)>>,
}

/// The lock on all rows that a serializable count takes.
const ALL: &str = "*";

impl Database {
    pub(super) fn new(is_serializable: bool) -> Self {
        Self { rows: [("x", 100)].into(), is_serializable, ..Self::default() }
    }

    /// Commits at once, and remembers how it was.
    pub(super) fn at_once(&mut self, who: &str, work: Work, remembered: i64) -> Did {
        if let Some(did) = self.read(who, work) {
            return did;
        }
        let Some((row, value)) = self.value(work, remembered) else { return Did::Refused };
        self.undo.entry(who.to_owned()).or_default().push((row, self.rows.get(row).copied()));
        self.rows.insert(row, value);
        Did::Done(None)
    }

    /// Puts back what the last piece of work found.
    pub(super) fn undo(&mut self, who: &str) {
        match self.undo.get_mut(who).and_then(Vec::pop) {
            Some((row, Some(value))) => self.rows.insert(row, value),
            Some((row, None)) => self.rows.remove(row),
            None => None,
        };
    }

    /// Reserves an amount; nobody sees a difference but those who want to reserve, too.
    pub(super) fn reserve(&mut self, who: &str, work: Work) -> Did {
        if let Some(did) = self.read(who, work) {
            return did;
        }
        let (Work::Add(row, amount) | Work::Insert(row, amount)) = work else {
            return Did::Refused;
        };
        let held: i64 =
            self.reserved.values().flatten().filter(|(r, _)| *r == row).map(|r| r.1.min(0)).sum();
        if self.rows.get(row).copied().unwrap_or(0) + held + amount < 0 {
            return Did::Refused;
        }
        self.reserved.entry(who.to_owned()).or_default().push((row, amount));
        Did::Done(None)
    }

    /// Makes reservations real, or drops them.
    pub(super) fn settle(&mut self, who: &str, is_real: bool) {
        for (row, amount) in self.reserved.remove(who).unwrap_or_default() {
            if is_real {
                *self.rows.entry(row).or_default() += amount;
            }
        }
    }

    /// Works inside of a transaction of the database, under its locks.
    pub(super) fn locked(&mut self, who: &str, work: Work, remembered: i64) -> Did {
        if let Some(did) = self.read(who, work) {
            return did;
        }
        let Some(row) = work.row() else { return Did::Refused };
        let is_new = !self.rows.contains_key(row);
        let readers = |row: &str| self.read_locks.get(row).into_iter().flatten();
        let reads = readers(row).any(|r| r != who) || is_new && readers(ALL).any(|r| r != who);
        if reads || self.write_locks.get(row).is_some_and(|holder| holder != who) {
            return Did::Blocked;
        }
        self.write_locks.insert(row, who.to_owned());
        let (row, value) = self.value(work, remembered).expect("it has a row");
        self.pending.entry(who.to_owned()).or_default().push((row, value));
        Did::Done(None)
    }

    /// Commits a transaction of the database, or rolls it back. Its locks go.
    pub(super) fn end(&mut self, who: &str, commits: bool) {
        for (row, value) in self.pending.remove(who).unwrap_or_default() {
            if commits {
                self.rows.insert(row, value);
            }
        }
        self.write_locks.retain(|_, holder| holder != who);
        self.read_locks.values_mut().for_each(|holders| {
            holders.remove(who);
        });
    }

    fn value(&self, work: Work, remembered: i64) -> Option<(&'static str, i64)> {
        match work {
            Work::Set(row, value) | Work::Insert(row, value) => Some((row, value)),
            Work::Add(row, amount) => {
                Some((row, self.rows.get(row).copied().unwrap_or(0) + amount))
            }
            Work::SetRemembered(row, more) => Some((row, remembered + more)),
            Work::Read(_) | Work::Count | Work::Refuse => None,
        }
    }

    /// `None`: it is no read.
    pub(super) fn read(&mut self, who: &str, work: Work) -> Option<Did> {
        let lock = match work {
            Work::Read(row) => row,
            Work::Count => ALL,
            _ => return None,
        };
        if self.is_serializable {
            let mut others = self.write_locks.iter().filter(|(_, holder)| *holder != who);
            if others.any(|(row, _)| lock == ALL || *row == lock) {
                return Some(Did::Blocked);
            }
            self.read_locks.entry(lock).or_default().insert(who.to_owned());
        }
        let value = match work {
            Work::Read(row) => self.rows.get(row).copied().unwrap_or(0),
            _ => self.rows.len() as i64,
        };
        Some(Did::Done(Some(value)))
    }
}
