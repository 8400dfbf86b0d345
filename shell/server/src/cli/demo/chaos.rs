//! The kills: now and then one process, for a moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::sleep;

use super::plan::Random;
use super::town::Town;
use crate::exit::Fatal;

/// Between two kills, in ms: at least, and at most this much more.
const PAUSE_MS: (u64, u64) = (300, 700);
/// How long a victim stays down, in ms: at least, and at most this much more.
const DOWN_MS: (u64, u64) = (20, 400);

/// Kills until it is aborted; whoever aborts it must start again what may be down.
///
/// # Errors
/// A process could not be started again, or has ended by itself.
pub(super) async fn rage(town: Arc<Mutex<Town>>, seed: u64) -> Result<(), Fatal> {
    let mut random = Random(seed ^ 0x6b69_6c6c);
    loop {
        pause(&mut random, PAUSE_MS).await;
        let victim = {
            let mut town = town.lock().await;
            if let Some(fallen) = town.fallen() {
                return Err(Fatal::Runtime(fallen));
            }
            let victim = random.below(town.len() as u64) as usize;
            town.kill(victim);
            victim
        };
        pause(&mut random, DOWN_MS).await;
        town.lock().await.start_again(victim)?;
    }
}

async fn pause(random: &mut Random, (least, more): (u64, u64)) {
    sleep(Duration::from_millis(least + random.below(more))).await;
}
