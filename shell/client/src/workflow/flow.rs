//! One run of a workflow: its branches, its steps, and what was recorded of them before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{Boxed, Ended, lock};
use crate::branch::{BranchCall, BranchError};
use crate::coordinator::{Coordinator, with_query};
use crate::error::Error;

/// Most branches of a workflow.
pub const MAX_BRANCHES: u32 = 99;

const ACTION: &str = "action";
const COMMIT: &str = "commit";
const ROLLBACK: &str = "rollback";

/// Why a step, or a function, did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It said no, for good: this is recorded, and if the function passes it on the workflow is rolled back.
    #[error("{0}")]
    Failure(String),
    /// Whether it was done is not known, or not decided. The run ends here and is repeated later.
    #[error("{0}")]
    Unfinished(String),
}

impl From<Error> for StepError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(why) => Self::Failure(why),
            other => Self::Unfinished(other.to_string()),
        }
    }
}

impl From<BranchError> for StepError {
    fn from(error: BranchError) -> Self {
        match error {
            BranchError::Failure(why) => Self::Failure(why),
            BranchError::Ongoing(why) => Self::Unfinished(why),
            BranchError::Error(error) => error.into(),
        }
    }
}

impl From<sqlx::Error> for StepError {
    fn from(error: sqlx::Error) -> Self {
        Error::from(error).into()
    }
}

/// What was recorded of a step: what it returned, or why it failed.
pub(super) type Recorded = Result<String, String>;

/// Branch and operation.
pub(super) type Key = (String, String);

/// A run of a workflow, as its function sees it. Clones are the same run.
#[derive(Clone)]
pub struct Flow {
    shared: Arc<Shared>,
}

struct Shared {
    coordinator: Coordinator,
    gid: String,
    recorded: BTreeMap<Key, Recorded>,
    state: Mutex<State>,
}

struct State {
    branches: u32,
    /// Recorded steps that this run has come to.
    replayed: BTreeSet<Key>,
    commits: Vec<Later>,
    rollbacks: Vec<Later>,
    /// Why this run cannot end the workflow, whatever the function returns.
    interrupted: Option<String>,
    last_sign: Instant,
}

/// A step of the second phase.
struct Later {
    branch_id: String,
    step: Box<dyn FnOnce(BranchCall) -> Boxed<Result<String, StepError>> + Send>,
}

impl Flow {
    pub(super) fn new(
        coordinator: &Coordinator,
        gid: &str,
        recorded: BTreeMap<Key, Recorded>,
    ) -> Self {
        let state = State {
            branches: 0,
            replayed: BTreeSet::new(),
            commits: Vec::new(),
            rollbacks: Vec::new(),
            interrupted: None,
            last_sign: Instant::now(),
        };
        let (coordinator, gid) = (coordinator.clone(), gid.to_owned());
        let shared = Shared { coordinator, gid, recorded, state: Mutex::new(state) };
        Self { shared: Arc::new(shared) }
    }

    /// The workflow's name.
    #[must_use]
    pub fn gid(&self) -> &str {
        &self.shared.gid
    }

    /// The next branch. Branches are counted in the order of these calls, which must be the same in every run.
    pub fn branch(&self) -> Branch {
        let mut state = lock(&self.shared.state);
        state.branches += 1;
        Branch { flow: self.clone(), id: format!("{:02}", state.branches) }
    }

    /// What this run cannot know or must not decide, after its function has ended.
    pub(super) fn check(&self) -> Result<(), Error> {
        let state = lock(&self.shared.state);
        if let Some(why) = &state.interrupted {
            return Err(Error::Unfinished(why.clone()));
        }
        let missed = |key: &&Key| key.1 == ACTION && !state.replayed.contains(*key);
        match self.shared.recorded.keys().find(missed) {
            Some((branch, op)) => Err(self.diverged(&format!("never came to {op} of {branch}"))),
            None => Ok(()),
        }
    }

    /// All commits or all rollbacks, the last registered one first.
    pub(super) async fn second_phase(&self, ended: &Ended) -> Result<(), Error> {
        let (op, other, steps) = {
            let mut state = lock(&self.shared.state);
            match ended {
                Ended::Succeeded(_) => (COMMIT, ROLLBACK, std::mem::take(&mut state.commits)),
                Ended::Failed(_) => (ROLLBACK, COMMIT, std::mem::take(&mut state.rollbacks)),
            }
        };
        if self.shared.recorded.keys().any(|key| key.1 == other) {
            return Err(
                self.diverged(&format!("came to its {op}s, an earlier run to its {other}s"))
            );
        }
        for Later { branch_id, step } in steps.into_iter().rev() {
            match self.step(&branch_id, op, step).await {
                Ok(_) => {}
                Err(StepError::Failure(why) | StepError::Unfinished(why)) => {
                    return Err(Error::Unfinished(format!("{op} of branch {branch_id}: {why}")));
                }
            }
        }
        Ok(())
    }

    fn diverged(&self, what: &str) -> Error {
        Error::Diverged(format!("workflow {}: this run {what}", self.gid()))
    }

    /// When the coordinator last heard that this workflow is being run.
    pub(super) fn last_sign(&self) -> Instant {
        lock(&self.shared.state).last_sign
    }

    pub(super) fn sign(&self) {
        lock(&self.shared.state).last_sign = Instant::now();
    }

    /// Carries out a step, or tells what was recorded of it.
    async fn step<F, R>(&self, branch_id: &str, op: &str, step: F) -> Result<String, StepError>
    where
        F: FnOnce(BranchCall) -> R,
        R: Future<Output = Result<String, StepError>>,
    {
        let key = (branch_id.to_owned(), op.to_owned());
        if let Some(why) = &lock(&self.shared.state).interrupted {
            return Err(StepError::Unfinished(why.clone()));
        }
        if let Some(recorded) = self.shared.recorded.get(&key) {
            lock(&self.shared.state).replayed.insert(key);
            return recorded.clone().map_err(StepError::Failure);
        }
        let call = BranchCall {
            gid: self.shared.gid.clone(),
            trans_type: "workflow".to_owned(),
            branch_id: branch_id.to_owned(),
            op: op.to_owned(),
            dtm: self.shared.coordinator.base().to_owned(),
        };
        match step(call).await {
            Ok(data) => self.record(branch_id, op, "succeed", data).await,
            // A commit or rollback that says no is asked again: nothing is recorded.
            Err(StepError::Failure(why)) if op == ACTION => {
                let why = self.record(branch_id, op, "failed", why).await?;
                Err(StepError::Failure(why))
            }
            Err(StepError::Failure(why) | StepError::Unfinished(why)) => Err(self.interrupt(why)),
        }
    }

    async fn record(
        &self,
        branch_id: &str,
        op: &str,
        status: &str,
        data: String,
    ) -> Result<String, StepError> {
        let fields = [
            ("gid", self.gid()),
            ("trans_type", "workflow"),
            ("branch_id", branch_id),
            ("op", op),
            ("status", status),
            ("data", &data),
        ];
        let body: Map<String, Value> =
            fields.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
        match self.shared.coordinator.register_branch(&body).await {
            Ok(()) => {
                self.sign();
                Ok(data)
            }
            // Refused, too: another run has recorded something else, or has ended the workflow.
            Err(error) => Err(self.interrupt(format!("not recorded: {error}"))),
        }
    }

    fn interrupt(&self, why: String) -> StepError {
        let mut state = lock(&self.shared.state);
        state.interrupted.get_or_insert_with(|| why.clone());
        StepError::Unfinished(why)
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Flow").field("gid", &self.shared.gid).finish_non_exhaustive()
    }
}

/// A branch of a workflow: one action, and what follows from it in the end.
#[derive(Clone, Debug)]
#[must_use = "a branch does nothing until it is run or called"]
pub struct Branch {
    flow: Flow,
    id: String,
}

impl Branch {
    /// Its id, `01` for the first one.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Carries this out if the function fails. It must succeed in the end.
    pub fn on_rollback<F, R>(self, step: F) -> Self
    where
        F: FnOnce(BranchCall) -> R + Send + 'static,
        R: Future<Output = Result<(), StepError>> + Send + 'static,
    {
        let later = self.later(step);
        lock(&self.flow.shared.state).rollbacks.push(later);
        self
    }

    /// Carries this out if the function succeeds. It must succeed in the end.
    pub fn on_commit<F, R>(self, step: F) -> Self
    where
        F: FnOnce(BranchCall) -> R + Send + 'static,
        R: Future<Output = Result<(), StepError>> + Send + 'static,
    {
        let later = self.later(step);
        lock(&self.flow.shared.state).commits.push(later);
        self
    }

    fn later<F, R>(&self, step: F) -> Later
    where
        F: FnOnce(BranchCall) -> R + Send + 'static,
        R: Future<Output = Result<(), StepError>> + Send + 'static,
    {
        let step = |call| -> Boxed<_> {
            let done = step(call);
            Box::pin(async move { done.await.map(|()| String::new()) })
        };
        Later { branch_id: self.id.clone(), step: Box::new(step) }
    }

    /// Calls this address with this body (JSON) if the function fails: the `compensate` of a saga, the `cancel`
    /// of a TCC.
    pub fn rollback_url(self, url: &str, body: &str) -> Self {
        let (flow, url, body) = (self.flow.clone(), url.to_owned(), body.to_owned());
        self.on_rollback(move |call| async move { flow.call(call, &url, &body).await.map(drop) })
    }

    /// Calls this address with this body (JSON) if the function succeeds: the `confirm` of a TCC.
    pub fn commit_url(self, url: &str, body: &str) -> Self {
        let (flow, url, body) = (self.flow.clone(), url.to_owned(), body.to_owned());
        self.on_commit(move |call| async move { flow.call(call, &url, &body).await.map(drop) })
    }

    /// The action: calls this address with this body (JSON; empty: a GET). The answer's text is recorded and
    /// returned.
    ///
    /// # Errors
    /// `Failure` if the branch refused. `Unfinished` if nobody knows, or the answer could not be recorded.
    pub async fn post(self, url: &str, body: &str) -> Result<String, StepError> {
        let flow = self.flow.clone();
        self.run(|call| async move { flow.call(call, url, body).await }).await
    }

    /// The action: anything that this program does, such as a local transaction behind the
    /// [`Barrier`](crate::Barrier) of the call. What it returns is recorded, up to 1 MiB.
    ///
    /// # Errors
    /// The action's. `Unfinished` also if the result could not be recorded.
    pub async fn run<F, R>(self, action: F) -> Result<String, StepError>
    where
        F: FnOnce(BranchCall) -> R,
        R: Future<Output = Result<String, StepError>>,
    {
        if lock(&self.flow.shared.state).branches > MAX_BRANCHES {
            return Err(self.flow.interrupt(format!("more than {MAX_BRANCHES} branches")));
        }
        self.flow.step(&self.id, ACTION, action).await
    }
}

impl Flow {
    async fn call(&self, call: BranchCall, url: &str, body: &str) -> Result<String, StepError> {
        let coordinator = &self.shared.coordinator;
        let parameters = [
            ("dtm", coordinator.base()),
            ("gid", &call.gid),
            ("trans_type", &call.trans_type),
            ("branch_id", &call.branch_id),
            ("op", &call.op),
        ];
        let answer = coordinator.call_branch(&with_query(url, &parameters), body).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}
