//! A demo from beginning to end.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorate_client::Patience;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::chaos;
use super::check::Books;
use super::options::Options;
use super::pay::Payer;
use super::plan::{Plan, stock};
use super::table::Summary;
use super::tally::Tally;
use super::town::{Place, Town};
use crate::exit::Fatal;
use crate::terminal::{complain, say};

/// How long the transactions that are unfinished after the last order may take.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at them, and at the progress.
const LOOK: Duration = Duration::from_millis(100);
/// How long a payer waits for the service of orders, which may be down.
const CREATE_PATIENCE: Patience =
    Patience { total: Duration::from_secs(20), pause: Duration::from_millis(20) };
/// With a time limit the number of orders is not known, and so much stock is there as for this many.
const TIMED_ORDERS: u64 = 100_000;
/// Characters of the progress bar.
const BAR: usize = 30;

/// `quorate demo order`.
pub(super) fn order(options: &Options) -> Result<(), Fatal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Fatal::Runtime(error.to_string()))?;
    runtime.block_on(async {
        let mut place = Place::take(options.dir.as_deref())?;
        let result = tokio::select! {
            result = whole(options, &place.path) => result,
            _ = tokio::signal::ctrl_c() => return Err(Fatal::Runtime("interrupted".to_owned())),
        };
        // Whatever went wrong stands in the logs of the processes.
        if result.is_err() {
            place.is_temporary = false;
            complain(format_args!("databases and logs are in {}", place.path.display()));
        }
        result
    })
}

async fn whole(options: &Options, dir: &Path) -> Result<(), Fatal> {
    let stock = stock(if options.time.is_some() { TIMED_ORDERS } else { options.orders });
    let town = Town::start(dir, stock).await?;
    let before = Books::read(&town).await?;
    let begun = Instant::now();
    let (town, tally) = orders(options, town).await?;
    let paying = begun.elapsed();
    let settling = Instant::now();
    let unfinished = settle(&town).await?;
    let after = Books::read(&town).await?;
    let http = [town.coordinator().http(), town.coordinator().branches()];
    let summary = Summary {
        options,
        lines: after.lines(&tally, stock),
        tally,
        before,
        after,
        kills: town.kills(),
        unfinished,
        paying,
        settling: settling.elapsed(),
        attempts: http.iter().map(|http| http.attempts()).sum(),
        repeated: http.iter().map(|http| http.repeated()).sum(),
    };
    town.end().await;
    if options.json {
        say(summary.json());
    } else {
        summary.print();
    }
    if summary.holds() {
        return Ok(());
    }
    Err(Fatal::Runtime(format!("the sums do not agree (seed {})", options.seed)))
}

/// Has all orders paid, with kills meanwhile; everything runs again afterwards.
async fn orders(options: &Options, town: Town) -> Result<(Town, Tally), Fatal> {
    let payer = Payer::new(&town, CREATE_PATIENCE);
    let town = Arc::new(Mutex::new(town));
    let mut kills = JoinSet::new();
    if options.kills {
        kills.spawn(chaos::rage(Arc::clone(&town), options.seed));
    }
    let work = pay_all(options, payer, &town);
    let tally = tokio::select! {
        tally = work => tally?,
        Some(ended) = kills.join_next() => {
            let fatal = ended.map_err(|error| Fatal::Runtime(error.to_string()));
            return Err(fatal.and_then(|ended| ended).err().unwrap_or_else(|| {
                Fatal::Runtime("the kills ended by themselves".to_owned())
            }));
        }
    };
    kills.shutdown().await;
    let town = Arc::try_unwrap(town).map_err(|_| Fatal::Runtime("still in use".to_owned()))?;
    let mut town = town.into_inner();
    for at in 0..town.len() {
        town.start_again(at)?;
    }
    Ok((town, tally))
}

async fn pay_all(options: &Options, payer: Payer, town: &Arc<Mutex<Town>>) -> Result<Tally, Fatal> {
    let mut plan = Plan::new(options.seed, &options.kinds, options.orders);
    let mut tally = Tally::default();
    let mut under_way = JoinSet::new();
    let bar = Bar::new(options);
    let begun = Instant::now();
    let is_time = || options.time.is_none_or(|time| begun.elapsed() < time);
    let mut shown = begun;
    loop {
        while under_way.len() < options.parallel && is_time() {
            let Some(purchase) = plan.next() else { break };
            let payer = payer.clone();
            under_way.spawn(async move {
                let begun = Instant::now();
                let end = payer.pay(purchase).await;
                (purchase, end, begun.elapsed())
            });
        }
        let Some(ended) = under_way.join_next().await else { break };
        let (purchase, end, took) = ended.map_err(|error| Fatal::Runtime(error.to_string()))?;
        let end = end?;
        tally.add(end, took);
        if end == super::tally::End::Committed {
            plan.paid(purchase.order);
        }
        if shown.elapsed() > LOOK {
            shown = Instant::now();
            bar.show(&tally, town.lock().await.kills(), begun.elapsed());
        }
    }
    bar.clear();
    Ok(tally)
}

/// Waits until no transaction is unfinished; gives those that still are at the end of the patience.
async fn settle(town: &Town) -> Result<Vec<String>, Fatal> {
    let deadline = Instant::now() + SETTLE_LIMIT;
    loop {
        let mut unfinished = Vec::new();
        for status in ["prepared", "submitted", "aborting"] {
            let path = format!("all?status={status}&limit=20");
            let page = town.coordinator().get(&path).await;
            let page = page.map_err(|error| Fatal::Runtime(error.to_string()))?;
            let transactions = page["transactions"].as_array().cloned().unwrap_or_default();
            let gids = transactions.iter().filter_map(|one| one["gid"].as_str());
            unfinished.extend(gids.map(str::to_owned));
        }
        if unfinished.is_empty() || Instant::now() > deadline {
            return Ok(unfinished);
        }
        sleep(LOOK).await;
    }
}

/// How far it is, for somebody who watches.
struct Bar {
    is_shown: bool,
    orders: Option<u64>,
    time: Option<Duration>,
}

impl Bar {
    fn new(options: &Options) -> Self {
        let is_shown = std::io::stderr().is_terminal() && !options.json;
        let orders = options.time.is_none().then_some(options.orders);
        Self { is_shown, orders, time: options.time }
    }

    fn show(&self, tally: &Tally, kills: u64, passed: Duration) {
        if !self.is_shown {
            return;
        }
        let part = match (self.orders, self.time) {
            (Some(orders), _) => tally.orders() as f64 / orders as f64,
            (None, Some(time)) => passed.as_secs_f64() / time.as_secs_f64(),
            (None, None) => 0.0,
        };
        let full = ((part * BAR as f64) as usize).min(BAR);
        let Tally { committed, refused, cancelled, abandoned, .. } = tally;
        let _reader_gone = write!(
            std::io::stderr(),
            "\r[{}{}] {} orders: {committed} committed, {refused} refused, {} cancelled; {kills} kills \x1b[K",
            "#".repeat(full),
            ".".repeat(BAR - full),
            tally.orders(),
            cancelled + abandoned,
        );
    }

    fn clear(&self) {
        if self.is_shown {
            let _reader_gone = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// The names of some transactions, for an error message.
pub(super) fn some(gids: &[String]) -> Value {
    gids.iter().take(5).cloned().collect()
}
