//! From a seed to a world: what is drawn before anything runs ("swarm testing": each run has some kinds
//! of fault and not others, because a fault that is always there hides what needs its absence).

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use quorate_node::AutoCompaction;

use crate::check::Property;
use crate::faults::FaultKind;
use crate::network::Weather;
use crate::planted::Planted;
use crate::rng::Rng;
use crate::world::END_MS;

/// Operations of a run, times its servers, at most: about 0.3 s of CPU.
const MOST_WORK: u64 = 10_000;

/// What kind of world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// One server, usually; faults of power and disk.
    PowerLoss,
    /// Three or five servers; every fault.
    Raft,
    /// Any of them, by the seed.
    #[default]
    All,
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "power-loss" => Ok(Self::PowerLoss),
            "raft" => Ok(Self::Raft),
            "all" => Ok(Self::All),
            other => Err(format!("no such profile: {other}; there are power-loss, raft and all")),
        }
    }
}

/// What the caller decides.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The seed.
    pub seed: u64,
    /// Number of servers, instead of the profile's choice.
    pub nodes: Option<usize>,
    /// Profile.
    pub profile: Profile,
    /// A bug to plant.
    pub planted: Option<Planted>,
    /// Check this property alone.
    pub only: Option<Property>,
    /// Keep a trace of everything.
    pub trace: bool,
}

/// Weights of what clients do.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Puts.
    pub put: u64,
    /// Reads of one key or of a range.
    pub read: u64,
    /// Deletions.
    pub delete: u64,
    /// Compare-and-swap.
    pub swap: u64,
    /// Transfers between two accounts.
    pub transfer: u64,
    /// Compactions.
    pub compact: u64,
    /// Leases: grant, attach, renew, revoke.
    pub lease: u64,
    /// Transactions inside of transactions.
    pub nested: u64,
}

/// Everything that is drawn from the seed in advance.
#[derive(Clone, Debug)]
pub struct Options {
    /// Servers at the start.
    pub nodes: usize,
    /// Kinds of fault that may happen.
    pub faults: BTreeSet<FaultKind>,
    /// Mean time between two faults, in milliseconds.
    pub fault_every_ms: u64,
    /// Longest duration of a fault, in milliseconds.
    pub fault_ms: u64,
    /// Servers that lost power are back within 30 ms.
    pub quick: bool,
    /// The network while there are faults.
    pub weather: Weather,
    /// A usual sync, in microseconds.
    pub sync_us: u64,
    /// Size of a segment of the log, in bytes.
    pub segment_bytes: u64,
    /// Bound of a sync group, in bytes.
    pub group_bytes: usize,
    /// The engine's active table is sealed at this size, in bytes.
    pub table_bytes: u64,
    /// Bytes of the log's tail that a server keeps in memory.
    pub log_cache_bytes: usize,
    /// Longest time to write a table out, in milliseconds.
    pub checkpoint_ms: u64,
    /// Clients.
    pub clients: usize,
    /// Mean pause of a client between two operations, in milliseconds.
    pub think_ms: u64,
    /// How long a client waits, in milliseconds.
    pub patience_ms: u64,
    /// What clients do.
    pub mix: Mix,
    /// Keys that they share.
    pub keys: u64,
    /// Longest value, in bytes.
    pub value_bytes: u64,
    /// Watch streams.
    pub streams: usize,
    /// Most watchers of a stream.
    pub watchers: usize,
    /// Speed of each server's clock, in millionths more or less than true time.
    pub skew_ppm: u64,
    /// Longest jump of a clock, in milliseconds.
    pub jump_ms: u64,
    /// Quota, in bytes; 0: none.
    pub quota_bytes: u64,
    /// When history is compacted without being asked.
    pub auto_compaction: AutoCompaction,
}

impl Options {
    /// Draws them.
    #[must_use]
    pub fn draw(settings: &Settings, rng: &mut Rng) -> Self {
        let single = match settings.profile {
            Profile::PowerLoss => true,
            Profile::Raft => false,
            Profile::All => rng.chance(250),
        };
        let drawn = if single { 1 } else { *rng.pick(&[3, 3, 3, 5]) };
        let nodes = settings.nodes.unwrap_or(drawn);
        let faults = draw_faults(nodes, rng);
        let has = |kind| u64::from(faults.contains(&kind));
        let hectic = rng.chance(300);
        let largest = if faults.contains(&FaultKind::QuotaAlarm) { 16 } else { 64 };
        let table_bytes = 1_024 * rng.between(4, largest);
        let clients = rng.between(6, 12);
        let auto_compaction = draw_auto_compaction(&faults, rng);
        let looks_seldom = matches!(auto_compaction, AutoCompaction::Revisions(_));
        let (min_us, max_us) = match rng.below(100) {
            0..80 => (50, rng.between(200, 5_000)),
            80..92 => (5_000, 40_000),
            _ => (20_000, 250_000), // as long as heartbeats are apart: elections collide
        };
        let weather = Weather {
            min_us,
            max_us,
            loss: has(FaultKind::Loss) * rng.between(1, 80),
            double: has(FaultKind::Double) * rng.between(1, 80),
            reorder: has(FaultKind::Reorder) * rng.between(1, 100),
        };
        Self {
            nodes,
            fault_every_ms: if hectic {
                rng.between(250, 1_200)
            } else {
                rng.between(1_200, 4_800)
            },
            fault_ms: if hectic { rng.between(50, 1_500) } else { rng.between(500, 6_000) },
            quick: rng.chance(300),
            weather,
            sync_us: rng.between(50, 3_000),
            segment_bytes: 4_096 * rng.between(16, 128),
            group_bytes: 4_096 * rng.between(1, 16) as usize,
            table_bytes,
            log_cache_bytes: *rng.pick(&[2 << 10, 16 << 10, 64 << 10]),
            checkpoint_ms: rng.between(1, 800),
            clients: clients as usize,
            think_ms: rng.between(80, 260).max(clients * END_MS * nodes as u64 / MOST_WORK),
            patience_ms: rng.between(1_500, 8_000),
            mix: draw_mix(rng),
            keys: rng.between(2, 12),
            value_bytes: *rng.pick(&[16, 16, 200, 2_000]),
            streams: rng.between(1, 4) as usize,
            watchers: rng.between(1, 3) as usize,
            skew_ppm: has(FaultKind::Skew) * rng.between(1_000, 50_000),
            // Long ones reach what is due every five minutes.
            jump_ms: if looks_seldom || rng.chance(200) { 700_000 } else { 20_000 },
            // Room for what lives and for tables under way, or nothing would ever help.
            quota_bytes: has(FaultKind::QuotaAlarm)
                * (5 * table_bytes + 1_024 * rng.between(32, 128)),
            auto_compaction,
            faults,
        }
    }
}

/// Each kind is on in half of the seeds or so; those that need peers need peers.
fn draw_faults(nodes: usize, rng: &mut Rng) -> BTreeSet<FaultKind> {
    use FaultKind as F;
    let calm = rng.chance(30);
    let needs_peers = [
        F::Loss,
        F::Double,
        F::Reorder,
        F::SlowLink,
        F::Partition,
        F::OneWay,
        F::LeaderFails,
        F::BitFlip,
        F::Transfer,
        F::Members,
    ];
    let drawn = FaultKind::ALL
        .iter()
        .copied()
        .filter(|kind| rng.chance(550) && !calm && (nodes > 1 || !needs_peers.contains(kind)));
    drawn.collect()
}

fn draw_auto_compaction(faults: &BTreeSet<FaultKind>, rng: &mut Rng) -> AutoCompaction {
    if !faults.contains(&FaultKind::AutoCompaction) {
        return AutoCompaction::Off;
    }
    match rng.below(3) {
        0 => AutoCompaction::Revisions(rng.between(10, 300) as i64),
        _ => AutoCompaction::Periodic(Duration::from_millis(rng.between(1_000, 12_000))),
    }
}

fn draw_mix(rng: &mut Rng) -> Mix {
    let mut weight = |most: u64| if rng.chance(800) { rng.between(1, most) } else { 0 };
    Mix {
        put: 10 + weight(20),
        read: 10 + weight(30),
        delete: weight(6),
        swap: weight(12),
        transfer: weight(12),
        compact: weight(2),
        lease: weight(10),
        nested: weight(8),
    }
}
