//! The rows of the table, as data: what runs, with how many clients, and what is asked of it.

pub mod compaction;
pub mod growth;
pub mod kv;
pub mod lock;
pub mod store;
pub mod watch;

use crate::closed;
use crate::limits::{KEYS, WARM_UP};
use crate::open;
use crate::sample::Sample;
use crate::servers::Cluster;
use crate::wire::Conn;
use anyhow::Result;
use kv::{KvLoad, Work};
use lock::{Caller, Locker};
use std::time::Duration;

/// What a row drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// A closed loop over the key-value service.
    Kv(Work),
    /// Lock and unlock; everybody contends for one lock, or each has a lock of its own.
    Lock {
        /// All clients want the same lock.
        one_name: bool,
        /// Through the server's lock service; else by the client recipe.
        service: bool,
    },
    /// `writers` put, `clients` watch.
    Watch {
        /// Number of writers.
        writers: usize,
    },
    /// An open loop of puts at half of the capacity of the first side.
    Open,
    /// Memory after a million keys, then kill -9 and the time to the first answer.
    Restart,
    /// Puts into a store of ten million keys, larger than the cache.
    Large,
    /// A compaction of a million revisions while puts go on.
    Compaction,
    /// The cost of an operation with ten times the keys, clients, watchers.
    Growth,
}

/// When a row runs that nobody named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In every table.
    Always,
    /// Not in a quick one: it takes minutes.
    Full,
    /// Never.
    Named,
}

/// A ratio against etcd that is asked for: to resolve the issue, and as the goal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Operations a second over etcd's.
    pub rate: (f64, f64),
    /// CPU per operation over etcd's; infinite where nothing is asked.
    pub cpu: (f64, f64),
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// What `--only` and the table call it.
    pub name: &'static str,
    /// What it drives.
    pub load: Load,
    /// Clients, or watchers.
    pub clients: usize,
    /// Connections that they share.
    pub conns: usize,
    /// Asked of one node.
    pub one: Option<Target>,
    /// Asked of three.
    pub three: Option<Target>,
    /// Whether it runs without being named.
    pub when: When,
}

const NO_CPU: (f64, f64) = (f64::INFINITY, f64::INFINITY);

const fn rate(resolve: f64, goal: f64) -> Option<Target> {
    Some(Target { rate: (resolve, goal), cpu: NO_CPU })
}

const WATCH: Option<Target> = Some(Target { rate: (1.5, 2.0), cpu: (0.7, 0.5) });

const fn row(name: &'static str, load: Load, clients: usize, conns: usize) -> Row {
    Row { name, load, clients, conns, one: None, three: None, when: When::Always }
}

const GET: Load = Load::Kv(Work::Get { serializable: false });
const PUT: Load = Load::Kv(Work::Put);
const RECIPE: Load = Load::Lock { one_name: false, service: false };
const RECIPE_ONE: Load = Load::Lock { one_name: true, service: false };
const SERVICE: Load = Load::Lock { one_name: false, service: true };
const SERVICE_ONE: Load = Load::Lock { one_name: true, service: true };

/// All rows, in the order of the table.
pub const ROWS: [Row; 22] = [
    Row { one: rate(1.3, 1.5), three: rate(1.3, 1.5), ..row("put-1", PUT, 1, 1) },
    Row { three: rate(2.0, 3.0), ..row("put-64", PUT, 64, 4) },
    Row { one: rate(1.7, 2.0), three: rate(2.0, 3.0), ..row("put-256", PUT, 256, 4) },
    Row { one: rate(1.7, 2.0), three: rate(2.0, 3.0), ..row("put-1000", PUT, 1000, 16) },
    row("get-64", GET, 64, 4),
    Row { one: rate(1.5, 1.5), three: rate(1.8, 1.8), ..row("get-256", GET, 256, 4) },
    row("get-serializable-256", Load::Kv(Work::Get { serializable: true }), 256, 4),
    Row {
        one: rate(1.7, 2.0),
        three: rate(2.0, 3.0),
        ..row("txn-256", Load::Kv(Work::Txn), 256, 4)
    },
    row("mixed-256", Load::Kv(Work::Mixed), 256, 4),
    Row { one: rate(1.7, 2.0), ..row("lock-recipe", RECIPE, 256, 4) },
    row("lock-recipe-one-name", RECIPE_ONE, 16, 4),
    Row { one: rate(1.7, 2.0), when: When::Named, ..row("lock-service", SERVICE, 256, 4) },
    Row {
        one: rate(20.0, 50.0),
        when: When::Named,
        ..row("lock-service-one-name", SERVICE_ONE, 16, 4)
    },
    row("watch-1-64", Load::Watch { writers: 1 }, 64, 4),
    row("watch-1-256", Load::Watch { writers: 1 }, 256, 4),
    Row { one: WATCH, three: WATCH, ..row("watch-1-1000", Load::Watch { writers: 1 }, 1000, 16) },
    Row { one: WATCH, three: WATCH, ..row("watch-64-64", Load::Watch { writers: 64 }, 64, 4) },
    row("open-50", Load::Open, 256, 4),
    row("restart-1m", Load::Restart, 0, 1),
    Row { when: When::Full, ..row("compaction", Load::Compaction, 256, 4) },
    Row { when: When::Full, ..row("growth", Load::Growth, 256, 4) },
    Row { when: When::Named, ..row("put-10m", Load::Large, 256, 4) },
];

impl Row {
    /// Whether the bare server can answer it.
    pub fn on_bare(&self) -> bool {
        matches!(self.load, Load::Kv(_))
    }

    /// Whether this server has what the row needs.
    pub async fn is_served(&self, cluster: &Cluster) -> Result<bool> {
        match self.load {
            Load::Lock { service: true, .. } => {
                Ok(Caller::is_served(&Conn::open(cluster.addresses()[0]).await?).await)
            }
            _ => Ok(true),
        }
    }

    /// Connection, name of the lock and number of each contender. Every run has new locks.
    fn contenders<'a>(
        &self,
        conns: &'a [Conn],
        run: usize,
    ) -> impl Iterator<Item = (&'a Conn, String, usize)> + use<'a> {
        let one_name = matches!(self.load, Load::Lock { one_name: true, .. });
        (0..self.clients).map(move |i| {
            let name = if one_name { format!("lock-{run}") } else { format!("lock-{run}-{i}") };
            (&conns[i % conns.len()], name, i)
        })
    }

    /// Connections for a cluster of `nodes`: as many to each node as to any other.
    pub fn conns(&self, nodes: usize) -> usize {
        self.conns.next_multiple_of(nodes)
    }

    /// What is asked of a cluster of `nodes`.
    pub fn target(&self, nodes: usize) -> Option<Target> {
        if nodes == 1 { self.one } else { self.three }
    }

    /// Brings a fresh cluster into the state that the row starts from.
    pub async fn prepare(&self, cluster: &Cluster) -> Result<()> {
        if matches!(self.load, Load::Kv(_) | Load::Open | Load::Compaction) {
            let conn = Conn::open(cluster.addresses()[0]).await?;
            kv::fill(&conn, KEYS).await?;
        }
        Ok(())
    }

    /// One run. `run` numbers it and `rate` is what an open loop sends a second.
    pub async fn measure(
        &self,
        cluster: &Cluster,
        run: usize,
        rate: f64,
        length: Duration,
    ) -> Result<Sample> {
        let addresses = cluster.addresses();
        let conns = Conn::open_many(&addresses, self.conns(addresses.len())).await?;
        let pids = cluster.pids();
        match self.load {
            Load::Kv(work) => {
                closed::run(KvLoad::many(&conns, work, self.clients, KEYS), &pids, length).await
            }
            Load::Lock { service: true, .. } => {
                let mut callers = Vec::with_capacity(self.clients);
                for (conn, name, _) in self.contenders(&conns, run) {
                    callers.push(Caller::new(conn, &name).await?);
                }
                closed::run(callers, &pids, length).await
            }
            Load::Lock { service: false, .. } => {
                let mut lockers = Vec::with_capacity(self.clients);
                for (conn, name, i) in self.contenders(&conns, run) {
                    lockers.push(Locker::new(conn, &name, i).await?);
                }
                closed::run(lockers, &pids, length).await
            }
            Load::Watch { writers } => {
                watch::run(&conns, &pids, writers, self.clients, length).await
            }
            Load::Open => open::run(&conns, &pids, rate, length).await,
            Load::Restart | Load::Large | Load::Compaction | Load::Growth => {
                unreachable!("these rows are driven by files of their own")
            }
        }
    }
}

/// Puts a second that 256 clients reach: what an open loop takes half of.
pub async fn capacity(cluster: &Cluster, row: &Row) -> Result<f64> {
    let conns = Conn::open_many(&cluster.addresses(), row.conns(cluster.addresses().len())).await?;
    let clients = KvLoad::many(&conns, Work::Put, row.clients, KEYS);
    Ok(closed::run(clients, &cluster.pids(), WARM_UP * 4).await?.rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_distinct() {
        assert_eq!(ROWS.iter().map(|r| r.name).collect::<BTreeSet<_>>().len(), ROWS.len());
    }

    #[test]
    fn every_node_gets_as_many_connections() {
        assert!(ROWS.iter().all(|r| r.conns(3) % 3 == 0 && r.conns(1) == r.conns));
    }

    #[test]
    fn a_goal_is_never_below_what_resolves() {
        for t in ROWS.iter().flat_map(|r| [r.one, r.three]).flatten() {
            assert!(t.rate.1 >= t.rate.0 && t.cpu.1 <= t.cpu.0, "{t:?}");
        }
    }
}
