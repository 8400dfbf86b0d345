//! The kills: now and then one process, for a moment.

use std::sync::Arc;
use std::time::Duration;

use quorate_rng::Rng;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::town::Town;
use crate::exit::Fatal;

/// A span of times in ms: at least, and at most this much more.
type Span = (u64, u64);

/// Between two kills.
const PAUSE_MS: Span = (300, 700);
/// How long a victim stays down.
const DOWN_MS: Span = (20, 400);
/// How long one of several servers stays down: often long enough for the others to elect a leader.
const NODE_DOWN_MS: Span = (200, 2300);

/// Kills until it is aborted; whoever aborts it must start again what may be down.
///
/// # Errors
/// A process could not be started again, or has ended by itself.
pub(super) async fn rage(town: Arc<Mutex<Town>>, seed: u64) -> Result<(), Fatal> {
    let mut random = Rng::new(seed ^ 0x6b69_6c6c);
    loop {
        pause(&mut random, PAUSE_MS).await;
        let (victim, down) = {
            let mut town = town.lock().await;
            town.must_run()?;
            let victim = victim(&mut random, &town).await;
            let is_node = town.servers().len() > 1 && town.servers().contains(&victim);
            let down = if is_node { NODE_DOWN_MS } else { DOWN_MS };
            town.kill(victim).await;
            (victim, down)
        };
        pause(&mut random, down).await;
        town.lock().await.start_again(victim)?;
    }
}

/// Anybody; in a cluster as often a server as a service, and then as often the leader as any server.
async fn victim(random: &mut Rng, town: &Town) -> usize {
    let servers = town.servers();
    if servers.len() == 1 {
        return random.below(servers.end as u64) as usize;
    }
    if random.percent(50) {
        return random.below(servers.start as u64) as usize;
    }
    let any = servers.start + random.below(servers.len() as u64) as usize;
    let leader = if random.percent(50) { town.leader().await } else { None };
    leader.unwrap_or(any)
}

async fn pause(random: &mut Rng, (least, more): Span) {
    sleep(Duration::from_millis(least + random.below(more))).await;
}
