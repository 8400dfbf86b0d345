//! What makes one demo different from the other.

use super::check::{Books, Line};
use super::deed::Deed;
use super::options::Options;
use super::service::Role;
use super::tally::{End, Tally};
use super::town::Town;

/// How a demo calls what it does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// Several deeds; also the flag that says how many.
    pub(super) many: &'static str,
    /// Why services refuse.
    pub(super) refused: &'static str,
}

/// A service that is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServicePlan {
    /// Of its process, database and log.
    pub(super) name: &'static str,
    pub(super) role: Role,
    /// What it has at first: pieces of each item, money in each account.
    pub(super) fill: u64,
}

/// One demo: its services, its deeds, and what must be so in the end.
pub(super) trait Story: Sized {
    const WORDS: Words;

    /// The services.
    fn services(options: &Options) -> Vec<ServicePlan>;

    /// The deeds, now that the services have addresses.
    fn new(options: &Options, town: &Town) -> Self;

    /// The next deed, until there are no more.
    fn next(&mut self) -> Option<Deed>;

    /// It has ended.
    fn ended(&mut self, deed: &Deed, end: End);

    /// What is shown as it was before and is after.
    fn sums(books: &Books) -> Vec<(&'static str, i64)>;

    /// What must be so when nothing is under way.
    fn lines(before: &Books, after: &Books, tally: &Tally) -> Vec<Line>;
}
