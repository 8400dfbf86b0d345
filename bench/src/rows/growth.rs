//! How the cost of an operation grows: with ten times the keys, the clients, the watchers.
//!
//! What is compared is CPU time of the servers per operation (per delivered event for watchers), which a
//! noisy machine disturbs less than rates.

use crate::closed;
use crate::limits::KEYS;
use crate::rows::kv::{KvLoad, Work, fill};
use crate::rows::watch;
use crate::sample::{Sample, median};
use crate::servers::Cluster;
use crate::wire::Conn;
use anyhow::{Context, Result};
use std::time::Duration;

/// One thing that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// What the table calls it.
    pub name: &'static str,
    load: Load,
    clients: usize,
    conns: usize,
    grows: Grows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    Kv(Work),
    Watch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grows {
    Keys,
    Clients,
}

const GET: Work = Work::Get { serializable: false };

/// All axes. Those of the keys stand last: the store is filled up before their second half.
pub const AXES: [Axis; 4] = [
    Axis {
        name: "put, clients",
        load: Load::Kv(Work::Put),
        clients: 100,
        conns: 4,
        grows: Grows::Clients,
    },
    Axis { name: "watchers", load: Load::Watch, clients: 100, conns: 4, grows: Grows::Clients },
    Axis {
        name: "put, keys",
        load: Load::Kv(Work::Put),
        clients: 256,
        conns: 4,
        grows: Grows::Keys,
    },
    Axis { name: "get, keys", load: Load::Kv(GET), clients: 256, conns: 4, grows: Grows::Keys },
];

/// Server CPU per operation, in µs, before and after something grew tenfold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Before and after.
    pub cpu_us: (f64, f64),
}

impl Growth {
    /// After over before.
    pub fn factor(&self) -> f64 {
        self.cpu_us.1 / self.cpu_us.0.max(f64::MIN_POSITIVE)
    }
}

/// One side of the row: its cluster, and what was measured of each axis, small and large.
pub struct Side {
    cluster: Cluster,
    samples: [[Vec<Sample>; 2]; AXES.len()],
}

impl Side {
    /// A side whose store holds the usual number of keys.
    pub async fn new(cluster: Cluster) -> Result<Self> {
        fill(&conn(&cluster).await?, KEYS).await?;
        Ok(Self { cluster, samples: Default::default() })
    }

    /// Ten times the keys (`keys` in all).
    pub async fn fill_up(&mut self, keys: u64) -> Result<()> {
        fill(&conn(&self.cluster).await?, keys).await
    }

    /// One run of one axis, small or large; `keys` is how many the store holds when it is large.
    pub async fn run(
        &mut self,
        axis: usize,
        large: bool,
        keys: u64,
        length: Duration,
    ) -> Result<()> {
        let Axis { load, clients, conns, grows, .. } = AXES[axis];
        let (clients, conns) = match (grows, large) {
            (Grows::Clients, true) => (clients * 10, conns * 4),
            _ => (clients, conns),
        };
        let keys = if grows == Grows::Keys && large { keys } else { KEYS };
        let (addresses, pids) = (self.cluster.addresses(), self.cluster.pids());
        let conns = conns.next_multiple_of(addresses.len());
        let conns = Conn::open_many(&addresses, conns).await?;
        let sample = match load {
            Load::Kv(work) => {
                closed::run(KvLoad::many(&conns, work, clients, keys), &pids, length).await
            }
            Load::Watch => watch::run(&conns, &pids, 1, clients, length).await,
        };
        let sample = sample.with_context(|| self.cluster.log_tail())?;
        self.samples[axis][usize::from(large)].push(sample);
        Ok(())
    }

    /// The growth along each axis.
    pub fn growth(&self) -> Result<Vec<Growth>> {
        let of = |samples: &[Vec<Sample>; 2]| {
            let (small, large) = (median(&samples[0])?, median(&samples[1])?);
            Ok(Growth { cpu_us: (small.cpu_us, large.cpu_us) })
        };
        self.samples.iter().map(of).collect()
    }
}

/// Which axes need the store to be filled up between small and large.
pub fn grows_by_keys(axis: usize) -> bool {
    AXES[axis].grows == Grows::Keys
}

async fn conn(cluster: &Cluster) -> Result<Conn> {
    Conn::open(cluster.addresses()[0]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_the_keys_stand_last() {
        let by_keys: Vec<bool> = (0..AXES.len()).map(grows_by_keys).collect();
        assert!(by_keys.is_sorted() && by_keys.iter().any(|by_keys| *by_keys));
    }
}
