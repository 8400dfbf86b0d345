//! A demo from beginning to end.

mod stop;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::chaos;
use super::check::Books;
use super::deed::Clerk;
use super::options::Options;
use super::progress::Progress;
use super::story::Story;
use super::table::Summary;
use super::tally::Tally;
use super::town::{Place, Town};
use crate::exit::Fatal;
use crate::terminal::{complain, say};
use stop::Stop;

/// How long the transactions that are unfinished after the last deed may take.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks at processes and free space.
const HEALTH_PAUSE: Duration = Duration::from_secs(1);

/// `quorate demo NAME`.
pub(super) fn demo<S: Story>(options: &Options) -> Result<(), Fatal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Fatal::Runtime(error.to_string()))?;
    runtime.block_on(async {
        let mut place = Place::take(options.dir.as_deref(), options.nodes)?;
        let stop = Stop::new()?;
        let result = tokio::select! {
            result = whole::<S>(options, &place, &stop) => result,
            () = stop.at_once() => return Err(Fatal::Runtime("interrupted".to_owned())),
        };
        // Whatever went wrong stands in the logs of the processes.
        if result.is_err() {
            place.is_temporary = false;
            complain(format_args!("databases and logs are in {}", place.path.display()));
        }
        result
    })
}

async fn whole<S: Story>(options: &Options, place: &Place, stop: &Stop) -> Result<(), Fatal> {
    let town = Town::start(&place.path, &S::services(options), options.nodes).await?;
    let before = Books::read(&town).await?;
    let story = S::new(options, &town);
    let begun = Instant::now();
    let (town, tally) = under_kills(options, story, town, place, stop).await?;
    let doing = begun.elapsed();
    let settling = Instant::now();
    let unfinished = settle(&town).await?;
    let after = Books::read(&town).await?;
    let coordinators = town.coordinators();
    let http = || coordinators.iter().flat_map(|one| [one.http(), one.branches()]);
    let sums = S::sums(&before).into_iter().zip(S::sums(&after));
    let summary = Summary {
        options,
        words: S::WORDS,
        lines: S::lines(&before, &after, &tally),
        tally,
        sums: sums.map(|((what, before), (_, after))| (what, before, after)).collect(),
        before,
        after,
        kills: town.kills(),
        calls: town.calls().await,
        unfinished,
        doing,
        settling: settling.elapsed(),
        requests: http().map(|http| http.attempts()).sum(),
        repeated: http().map(|http| http.repeated()).sum(),
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

/// Has all deeds done, with kills meanwhile; everything runs again afterwards.
async fn under_kills<S: Story>(
    options: &Options,
    story: S,
    town: Town,
    place: &Place,
    stop: &Stop,
) -> Result<(Town, Tally), Fatal> {
    let clerk = Clerk::new(&town);
    let town = Arc::new(Mutex::new(town));
    let mut kills = JoinSet::new();
    if options.kills {
        kills.spawn(chaos::rage(Arc::clone(&town), options.seed));
    }
    let tally = tokio::select! {
        tally = do_all(options, story, clerk, &town, stop) => tally?,
        fatal = health(place, &town) => return Err(fatal),
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

/// Ends when something is wrong that no demo can go on with.
async fn health(place: &Place, town: &Mutex<Town>) -> Fatal {
    loop {
        sleep(HEALTH_PAUSE).await;
        let has_room = place.must_have_room();
        let runs = town.lock().await.must_run();
        if let Err(fatal) = has_room.and(runs) {
            return fatal;
        }
    }
}

async fn do_all<S: Story>(
    options: &Options,
    mut story: S,
    clerk: Clerk,
    town: &Mutex<Town>,
    stop: &Stop,
) -> Result<Tally, Fatal> {
    let mut tally = Tally::default();
    let mut under_way = JoinSet::new();
    let mut progress = Progress::new(options, S::WORDS.many);
    loop {
        let is_time = options.time.is_none_or(|time| progress.passed() < time);
        while under_way.len() < options.parallel && is_time && !stop.is_asked() {
            let Some(deed) = story.next() else { break };
            let clerk = clerk.clone();
            under_way.spawn(async move {
                let begun = Instant::now();
                let end = clerk.carry_out(&deed).await;
                (deed, end, begun.elapsed())
            });
        }
        let Some(ended) = under_way.join_next().await else { break };
        let (deed, end, took) = ended.map_err(|error| Fatal::Runtime(error.to_string()))?;
        let end = end.inspect_err(|_| progress.clear())?;
        tally.add(deed.kind, end, took);
        story.ended(&deed, end);
        // If somebody is being killed, the next one shows it.
        if let Ok(town) = town.try_lock() {
            progress.show(&tally, town.kills().all);
        }
    }
    progress.clear();
    Ok(tally)
}

/// Waits until no transaction is unfinished; gives those that still are at the end of the patience.
async fn settle(town: &Town) -> Result<Vec<String>, Fatal> {
    let deadline = Instant::now() + SETTLE_LIMIT;
    let coordinators = town.coordinators();
    let coordinator = coordinators.first().expect("a town has a server");
    loop {
        let mut unfinished = Vec::new();
        for status in ["prepared", "submitted", "aborting"] {
            let path = format!("all?status={status}&limit=5");
            let page = coordinator.get(&path).await;
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
