//! The runtimes, and what stands between each of them and the node: a lane.
//!
//! The first lane is the runtime that `run` drives itself; the others have threads.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;

use quorate_storage::{LatencyHistogram, WalHandle};
use tokio::runtime::{Handle as RuntimeHandle, Runtime as TokioRuntime};
use tokio::sync::{oneshot, watch};

use crate::api::dtm;
use crate::api::etcd::{Api, Identity, Parts as ApiParts};
use crate::api::v1;
use crate::config::Config;
use crate::exit::Fatal;
use crate::handle::{Desk, Handle, Shared};
use crate::inbox::Inbox;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::outcall::{Executor, Results};
use crate::runtime::Runtime;
use crate::serve::{self, Faces};
use crate::watch::WatchDesk;

/// One runtime: what the node and the faces need of it.
pub(super) struct Lane {
    mailbox: Arc<Mailbox>,
    runtime: Arc<Runtime>,
    api: Api,
    v1: v1::Api,
    on: RuntimeHandle,
    /// Ends the runtime's thread; the first runtime has none.
    end: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// What all lanes have in common.
pub(super) struct Common<'a> {
    pub(super) config: &'a Config,
    pub(super) identity: quorate_wal::Identity,
    pub(super) inbox: Arc<Inbox>,
    pub(super) shared: Arc<Shared>,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) metrics: Arc<Metrics>,
}

impl Common<'_> {
    /// As many lanes as are configured, at least one, with the tasks that the node relies on.
    pub(super) fn lanes(&self, first: &TokioRuntime) -> Result<Vec<Lane>, Fatal> {
        let lanes = (0..self.config.runtimes).map(|number| self.lane(number, first));
        let lanes = lanes.collect::<Result<Vec<_>, _>>()?;
        lanes.iter().for_each(|lane| lane.start(self.config));
        Ok(lanes)
    }

    fn lane(&self, number: usize, first: &TokioRuntime) -> Result<Lane, Fatal> {
        let mailbox = Arc::new(Mailbox::default());
        let desk = Arc::new(Desk::new(number, Arc::clone(&self.inbox)));
        let handle = Handle::new(Arc::clone(&desk), Arc::clone(&self.shared));
        let identity = Identity { cluster: self.identity.cluster.0, member: self.identity.node.0 };
        let watch = WatchDesk::new(handle.clone(), identity);
        let (on, end) = thread(number, first)?;
        let executor = self.executor(on.clone())?;
        let runtime = Runtime::new(Arc::clone(&mailbox), desk, Arc::clone(&watch), executor);
        let v1 = v1::Api::new(handle.clone(), identity.member, self.config);
        let api = self.api(handle, identity, watch, Arc::clone(&runtime));
        Ok(Lane { mailbox, runtime, api, v1, on, end })
    }

    /// Makes calls to other people's services; the node hears of each attempt's end.
    fn executor(&self, on: RuntimeHandle) -> Result<Executor, Fatal> {
        let results = Results::new(Arc::clone(&self.inbox));
        on.spawn(Arc::clone(&results).carry());
        let deliver = move |attempt, result| results.put(attempt, result);
        Executor::new(on, &self.config.transactions.calls, deliver)
            .map_err(|error| Fatal::Runtime(format!("calls to other services: {error}")))
    }

    fn api(
        &self,
        handle: Handle,
        identity: Identity,
        watch: Arc<WatchDesk>,
        runtime: Arc<Runtime>,
    ) -> Api {
        let config = self.config;
        Api::new(ApiParts {
            handle,
            watch,
            runtime,
            identity,
            cluster_token: config.cluster_token.clone(),
            txn_limits: quorate_kv::limits::TxnLimits { max_ops: config.max_txn_ops },
            max_request_bytes: config.max_request_bytes,
            election_timeout: config.election_timeout,
            stopping: self.stopping.clone(),
            metrics: Arc::clone(&self.metrics),
        })
    }
}

impl Lane {
    /// How this lane asks the node.
    pub(super) fn handle(&self) -> Handle {
        self.api.handle.clone()
    }

    /// Where the node puts what is for this lane.
    pub(super) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    /// Connections of clients, of all lanes together.
    pub(super) fn open_connections(&self) -> &AtomicU64 {
        &self.api.metrics.connections
    }

    /// Starts the tasks that the node relies on.
    fn start(&self, config: &Config) {
        self.on.spawn(Arc::clone(&self.runtime).deliver());
        self.on.spawn(Arc::clone(&self.runtime).tick(config.progress_interval));
        self.on.spawn(Arc::clone(&self.api.watch).work());
    }

    /// Starts to take connections.
    pub(super) fn serve(
        &self,
        wal: WalHandle,
        checkpoints: Arc<LatencyHistogram>,
    ) -> (RuntimeHandle, serve::Connections) {
        let (api, v1) = (self.api.clone(), self.v1.clone());
        let faces = Faces { api, v1, wal, checkpoints };
        let _entered = self.on.enter();
        (self.on.clone(), serve::start(faces))
    }

    /// Starts to take connections of DTM's clients.
    pub(super) fn serve_dtm(&self) -> (RuntimeHandle, serve::Connections) {
        let api = dtm::Api {
            handle: self.handle(),
            max_request_bytes: self.api.max_request_bytes,
            stopping: self.api.stopping.clone(),
            metrics: Arc::clone(&self.api.metrics),
            trace: dtm::Trace::default(),
        };
        let _entered = self.on.enter();
        (self.on.clone(), dtm::start(api))
    }

    /// Ends its thread.
    pub(super) fn stop(self) {
        if let Some((end, thread)) = self.end {
            // Dropping the sender ends the thread's runtime.
            drop(end);
            let _ended = thread.join();
        }
    }
}

type Thread = (RuntimeHandle, Option<(oneshot::Sender<()>, JoinHandle<()>)>);

fn thread(number: usize, first: &TokioRuntime) -> Result<Thread, Fatal> {
    if number == 0 {
        return Ok((first.handle().clone(), None));
    }
    let runtime = super::runtime(number)?;
    let handle = runtime.handle().clone();
    let (end, ended) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new()
        .name(format!("runtime-{number}"))
        .spawn(move || {
            let _sender_dropped = runtime.block_on(ended);
        })
        .map_err(|error| Fatal::Runtime(format!("cannot start a thread: {error}")))?;
    Ok((handle, Some((end, thread))))
}
