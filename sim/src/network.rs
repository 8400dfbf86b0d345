//! The network between servers: what happens to a message on its way.
//!
//! A link goes one way. It keeps the order of its messages (as a connection does) unless reordering is
//! on; it may lose, double or delay them; it may be cut, alone (one-way) or as part of a partition. The
//! servers see nothing of this but what arrives, and sometimes that a connection broke.

use std::collections::{BTreeMap, BTreeSet};

use quorate_consensus::NodeId;

use crate::queue::Time;
use crate::rng::Rng;

/// How bad the links are.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    /// Least delay, in microseconds.
    pub min_us: u64,
    /// Greatest usual delay, in microseconds.
    pub max_us: u64,
    /// Messages lost, of a thousand.
    pub loss: u64,
    /// Messages that arrive twice, of a thousand.
    pub double: u64,
    /// Messages that may overtake others, of a thousand.
    pub reorder: u64,
}

/// What becomes of a message: when its copies arrive (none: it is lost).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// When each copy arrives.
    pub arrivals: Vec<Time>,
    /// It was lost by bad luck, not by a cut.
    pub lost: bool,
    /// It may have overtaken another.
    pub reordered: bool,
}

/// All links.
#[derive(Debug, Default)]
pub struct Network {
    /// How bad it is.
    pub weather: Weather,
    cuts: BTreeSet<(NodeId, NodeId)>,
    slow: BTreeMap<(NodeId, NodeId), u64>,
    last: BTreeMap<(NodeId, NodeId), Time>,
}

impl Network {
    /// A network with this weather and whole links.
    #[must_use]
    pub fn new(weather: Weather) -> Self {
        Self { weather, ..Self::default() }
    }

    /// Cuts the links between two sets, both ways.
    pub fn partition(&mut self, one: &[NodeId], other: &[NodeId]) {
        for a in one {
            for b in other {
                self.cuts.extend([(*a, *b), (*b, *a)]);
            }
        }
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// Makes one direction slower by so many microseconds.
    pub fn slow_down(&mut self, from: NodeId, to: NodeId, us: u64) {
        self.slow.insert((from, to), us);
    }

    /// Repairs every link; the weather stays.
    pub fn mend(&mut self) {
        self.cuts.clear();
        self.slow.clear();
    }

    /// Repairs every link and ends all bad weather.
    pub fn calm(&mut self) {
        self.mend();
        self.weather = Weather { min_us: 100, max_us: 1_000, ..Weather::default() };
    }

    /// Whether nothing from `from` reaches `to`.
    #[must_use]
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// Decides what becomes of a message that leaves now.
    pub fn fate(&mut self, now: Time, from: NodeId, to: NodeId, rng: &mut Rng) -> Fate {
        if self.is_cut(from, to) {
            return Fate::default();
        }
        if rng.chance(self.weather.loss) {
            return Fate { lost: true, ..Fate::default() };
        }
        let mut fate = Fate::default();
        let copies = 1 + u64::from(rng.chance(self.weather.double));
        for _ in 0..copies {
            let (arrival, reordered) = self.arrival(now, from, to, rng);
            fate.arrivals.push(arrival);
            fate.reordered |= reordered;
        }
        fate
    }

    fn arrival(&mut self, now: Time, from: NodeId, to: NodeId, rng: &mut Rng) -> (Time, bool) {
        let Weather { min_us, max_us, reorder, .. } = self.weather;
        let slow = self.slow.get(&(from, to)).copied().unwrap_or(0);
        let usual = now.after_us(rng.between(min_us, max_us) + slow);
        if rng.chance(reorder) {
            return (usual.after_us(rng.between(0, 10 * max_us)), true);
        }
        let last = self.last.entry((from, to)).or_default();
        *last = usual.max(*last);
        (*last, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    #[test]
    fn a_calm_link_keeps_the_order_and_loses_nothing() {
        let mut network = Network::default();
        network.calm();
        let mut rng = Rng::new(1);
        let arrivals: Vec<Time> = (0..1_000)
            .map(|at| network.fate(Time(at), A, B, &mut rng).arrivals)
            .map(|arrivals| *arrivals.first().expect("nothing is lost"))
            .collect();
        assert!(arrivals.is_sorted());
    }

    #[test]
    fn a_one_way_cut_is_one_way() {
        let mut network = Network::default();
        network.calm();
        network.cut(A, B);
        let mut rng = Rng::new(1);
        assert_eq!(network.fate(Time(0), A, B, &mut rng), Fate::default());
        assert_eq!(network.fate(Time(0), B, A, &mut rng).arrivals.len(), 1);
        network.mend();
        assert_eq!(network.fate(Time(0), A, B, &mut rng).arrivals.len(), 1);
    }
}
