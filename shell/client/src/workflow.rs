//! Workflow: a global transaction that is a function of the application.
//!
//! The function calls branches, or changes its own database, in *steps*; what each step returned is recorded by the
//! coordinator. If the application dies the coordinator calls it back, and the function runs again from its
//! beginning: recorded steps are not carried out again but return what they returned. In the end either all
//! steps' commits are carried out or, if the function failed, all their rollbacks, the last one first; then
//! the outcome is submitted.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use bytes::Bytes;
//! # use quorate_client::*;
//! # async fn example() -> Result<(), Error> {
//! let coordinator = Coordinator::new("http://127.0.0.1:36789/api/dtmsvr");
//! let workflows = Workflows::new(&coordinator, "http://127.0.0.1:8080/workflow")
//!     .register("order", |flow: Flow, order: Bytes| async move {
//!         let order = String::from_utf8_lossy(&order).into_owned();
//!         let stock = flow.branch().rollback_url("http://stock/give-back", &order);
//!         let taken = stock.post("http://stock/take", &order).await?;
//!         let points = flow.branch();
//!         points.post("http://points/add", &order).await?;
//!         Ok(Bytes::from(taken))
//!     });
//! let workflows = Arc::new(workflows);
//! // And in the router: .route("/workflow", post(called_back)).with_state(workflows)
//! match workflows.run("order-4711", "order", "{\"pieces\":2}").await? {
//!     Ended::Succeeded(taken) => println!("ordered: {taken:?}"),
//!     Ended::Failed(why) => println!("nothing was ordered: {why}"),
//! }
//! # Ok(())
//! # }
//! # #[cfg(any())] // axum is the application's, and not a dependency of this crate
//! async fn called_back(
//!     State(workflows): State<Arc<Workflows>>, call: BranchCall, data: Bytes,
//! ) -> Result<Done, BranchError> {
//!     workflows.callback(call, data).await
//! }
//! ```
//!
//! # The rule for functions
//!
//! **Between its steps a function is deterministic**: given the same data and the same results of steps it takes the
//! same steps in the same order. Time, random numbers, reads of a database belong into steps. Branches are counted
//! in the order of [`Flow::branch`], so steps may run at the same time if their branches were taken one after
//! the other. A function that is seen to break the rule is not ended either way ([`Error::Diverged`]); the same
//! happens when a program is exchanged for one with another function of this name while workflows of the old one are
//! open: register the new one under a new name.
//!
//! # What a step may expect
//!
//! - It is carried out **at least once**: a crash between a step and its record repeats it. Each step has a gid,
//!   branch and operation of its own ([`BranchCall`]) for the [`Barrier`](crate::Barrier) of whoever it calls.
//! - Success and FAILURE are recorded. Anything else (no answer, an error, ONGOING) is neither: the run ends there
//!   with [`Error::Unfinished`], whatever the function makes of it, and the coordinator calls back.
//! - A rollback is carried out also for the step that failed, as in a saga: a lost answer may hide that it had
//!   happened. With a barrier that is harmless. Commits and rollbacks must succeed in the end; a FAILURE from
//!   them is tried again.
//!
//! # Who runs it
//!
//! The coordinator calls back after a retry interval (10 s if the options do not say) without a sign of life. Each
//! record is one, and while a step takes long the library gives one at each third of the interval. So there is one run
//! at a time as long as process and coordinator reach each other; if they do not, two runs may overlap, and the
//! first record of each step counts: the other run ends as unfinished.
//!
//! Left out: XA inside of a workflow, results of steps that are not text (HTTP carries them as text), gRPC.

mod flow;
mod progress;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;
use tokio::task::JoinSet;

pub use flow::{Branch, Flow, MAX_BRANCHES, StepError};

use crate::branch::{BranchCall, BranchError, Done};
use crate::coordinator::{Coordinator, body_of};
use crate::error::Error;
use crate::options::Options;
use progress::Progress;

/// Workflows that one process runs at a time; more are left to the coordinator, which calls back later.
pub const MAX_RUNNING: usize = 4096;

/// Interval after which the coordinator calls back if the options do not say: its own default.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long a callback waits for the end before it answers that the run goes on. Coordinators wait 3 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

type Function = Box<dyn Fn(Flow, Bytes) -> Boxed<Result<Bytes, StepError>> + Send + Sync>;

/// How a workflow ended. The coordinator has it written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All steps and commits are done; this is what the function returned.
    Succeeded(Bytes),
    /// The function failed for this reason, and all rollbacks are done.
    Failed(String),
}

/// The workflows of an application: its functions by name, and where the coordinator can call back.
pub struct Workflows {
    coordinator: Coordinator,
    callback_url: String,
    options: Options,
    functions: BTreeMap<String, Function>,
    running: Mutex<BTreeSet<String>>,
    called_back: Mutex<JoinSet<()>>,
}

impl Workflows {
    /// Without functions yet. The coordinator must reach [`Self::callback`] at `callback_url`, by POST.
    #[must_use]
    pub fn new(coordinator: &Coordinator, callback_url: &str) -> Self {
        Self {
            coordinator: coordinator.clone(),
            callback_url: callback_url.to_owned(),
            options: Options::default(),
            functions: BTreeMap::new(),
            running: Mutex::default(),
            called_back: Mutex::default(),
        }
    }

    /// With these options for each workflow; `retry_interval` is the time without a sign of life after which the
    /// coordinator calls back. `wait_result` and `retry_limit` have no meaning here.
    #[must_use]
    pub fn with_options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// With this function under this name; see the module for what it may do. One of the same name is
    /// replaced.
    #[must_use]
    pub fn register<F, R>(mut self, name: &str, function: F) -> Self
    where
        F: Fn(Flow, Bytes) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Bytes, StepError>> + Send + 'static,
    {
        let boxed: Function = Box::new(move |flow, data| Box::pin(function(flow, data)));
        self.functions.insert(name.to_owned(), boxed);
        self
    }

    /// Runs the workflow `gid` to its end, or tells how it ended before. Running it again after an error, here or
    /// in another process, goes on where it stopped.
    ///
    /// # Errors
    /// After each of them but `Malformed` and `Refused` the coordinator calls back, unless it has never heard
    /// of the workflow. `Unfinished`: a step neither succeeded nor failed. `Ongoing`: this process runs it already.
    /// `Malformed`: no such name. `Refused`: the gid belongs to another kind of transaction, or another run
    /// has ended it otherwise. `Diverged`: see the module. `Unavailable` and `Failed`: the coordinator.
    pub async fn run(&self, gid: &str, name: &str, data: impl Into<Bytes>) -> Result<Ended, Error> {
        let function = self.functions.get(name);
        let function = function
            .ok_or_else(|| Error::Malformed(format!("there is no workflow named '{name}'")))?;
        let _running = self.begin(gid)?;
        let data: Bytes = data.into();
        let body = self.prepare_body(gid, name, &data);
        let progress = Progress::prepare(&self.coordinator, &body).await?;
        if let Some(ended) = progress.ended()? {
            return Ok(ended);
        }
        let flow = Flow::new(&self.coordinator, gid, progress.steps);
        let work = self.carry_out(&flow, function(flow.clone(), data));
        tokio::select! {
            ended = work => ended,
            ended = self.signs_of_life(&flow, &body) => ended,
        }
    }

    /// Answers the coordinator's callback: runs the workflow on. The run goes on by itself if the coordinator does
    /// not wait for it.
    ///
    /// # Errors
    /// Whatever is to be tried again later; what it is decides nothing.
    pub async fn callback(
        self: &Arc<Self>,
        call: BranchCall,
        data: Bytes,
    ) -> Result<Done, BranchError> {
        // A workflow that has ended and been forgotten must not be begun anew by a late call.
        if self.coordinator.status(&call.gid).await?.is_none() {
            let why = format!("there is no workflow {} to call back", call.gid);
            return Err(Error::Malformed(why).into());
        }
        let (tell, told) = tokio::sync::oneshot::channel();
        let workflows = Arc::clone(self);
        self.spawn(async move {
            let ended = workflows.run(&call.gid, &call.op, data).await;
            // Nobody waits any more if the run took long.
            let _ = tell.send(ended);
        });
        match tokio::time::timeout(ANSWER_WITHIN, told).await {
            Ok(Ok(Ok(_))) => Ok(Done),
            Ok(Ok(Err(Error::Ongoing(why)))) => Err(BranchError::Ongoing(why)),
            Ok(Ok(Err(error))) => Err(error.into()),
            Ok(Err(_)) => Err(Error::Unfinished("the function panicked".to_owned()).into()),
            Err(_) => Err(BranchError::Ongoing("it is being run".to_owned())),
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.called_back);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Waits until no callback runs in this process, for an orderly stop. Runs that are dropped instead are
    /// called back, like after a crash.
    pub async fn drain(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.called_back));
        while tasks.join_next().await.is_some() {}
    }

    fn begin(&self, gid: &str) -> Result<Running<'_>, Error> {
        let mut running = lock(&self.running);
        if running.len() >= MAX_RUNNING {
            let why = format!("{MAX_RUNNING} workflows are running");
            return Err(Error::Unavailable { url: self.callback_url.clone(), why });
        }
        if !running.insert(gid.to_owned()) {
            return Err(Error::Ongoing(format!("{gid} is being run")));
        }
        Ok(Running { all: &self.running, gid: gid.to_owned() })
    }

    fn prepare_body(&self, gid: &str, name: &str, data: &[u8]) -> progress::Body {
        let mut body = body_of(gid, "workflow", &self.options);
        let custom = json!({ "name": name, "data": STANDARD.encode(data) });
        body.insert("custom_data".to_owned(), custom.to_string().into());
        body.insert("query_prepared".to_owned(), self.callback_url.as_str().into());
        body.insert("protocol".to_owned(), "http".into());
        body
    }

    /// The function, then commits or rollbacks, then the outcome.
    async fn carry_out(
        &self,
        flow: &Flow,
        function: Boxed<Result<Bytes, StepError>>,
    ) -> Result<Ended, Error> {
        let result = function.await;
        flow.check()?;
        let ended = match result {
            Ok(result) => Ended::Succeeded(result),
            Err(StepError::Failure(why)) => Ended::Failed(why),
            Err(StepError::Unfinished(why)) => return Err(Error::Unfinished(why)),
        };
        flow.second_phase(&ended).await?;
        self.submit(flow.gid(), &ended).await?;
        Ok(ended)
    }

    async fn submit(&self, gid: &str, ended: &Ended) -> Result<(), Error> {
        let mut body = body_of(gid, "workflow", &Options::default());
        let outcome = match ended {
            Ended::Succeeded(result) => {
                json!({ "status": "succeed", "result": STANDARD.encode(result) })
            }
            Ended::Failed(why) => json!({ "status": "failed", "rollback_reason": why }),
        };
        body.insert("req_extra".to_owned(), outcome);
        self.coordinator.submit(&body).await
    }

    /// Tells the coordinator now and then that the workflow is being run, if nothing else does; returns when
    /// somebody else has ended it.
    async fn signs_of_life(&self, flow: &Flow, body: &progress::Body) -> Result<Ended, Error> {
        let interval = self.options.retry_interval;
        let period = if interval.is_zero() { INTERVAL } else { interval } / 3;
        loop {
            tokio::time::sleep_until(flow.last_sign() + period).await;
            if flow.last_sign().elapsed() < period {
                continue;
            }
            flow.sign();
            // Unreachable: the next record will tell.
            if let Ok(progress) = Progress::prepare(&self.coordinator, body).await
                && let Some(ended) = progress.ended()?
            {
                return Ok(ended);
            }
        }
    }
}

impl fmt::Debug for Workflows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.functions.keys().collect();
        let callback_url = &self.callback_url;
        formatter
            .debug_struct("Workflows")
            .field("callback_url", callback_url)
            .field("functions", &names)
            .finish()
    }
}

/// A workflow that this process runs, until it is dropped.
struct Running<'a> {
    all: &'a Mutex<BTreeSet<String>>,
    gid: String,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(self.all).remove(&self.gid);
    }
}

/// Nothing in here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
