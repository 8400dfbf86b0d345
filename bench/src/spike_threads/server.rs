//! The spike's server process: runtimes, the node and the WAL in threads, as the layout says.

use crate::handoff::{Inbox, Mailbox, Pending, Slots};
use crate::spike_threads::node::{Input, Node, To};
use crate::spike_threads::wal::{self, Log, Persist};
use crate::spike_threads::{Layout, Reply, Stack, Wal, stacks};
use anyhow::{Context, Result};
use clap::Args;
use quorate_wire::etcdserverpb::{PutRequest, PutResponse, ResponseHeader};
use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use tokio::sync::{Notify, mpsc, oneshot};

thread_local! {
    static SLOTS: RefCell<Slots<PutResponse>> = RefCell::default();
    static ARRIVED: RefCell<Vec<Input>> = const { RefCell::new(Vec::new()) };
}

/// What to measure.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Where to listen.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Where a request is answered.
    #[arg(long, value_enum, default_value = "direct")]
    pub layout: Layout,
    /// How the server speaks HTTP/2.
    #[arg(long, value_enum, default_value = "tonic")]
    pub stack: Stack,
    /// How a reply finds its handler.
    #[arg(long, value_enum, default_value = "slot")]
    pub reply: Reply,
    /// Where a batch is made durable.
    #[arg(long, value_enum, default_value = "none")]
    pub wal: Wal,
    /// Number of current-thread runtimes.
    #[arg(long, default_value_t = 1)]
    pub runtimes: usize,
    /// Directory of the log.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
}

/// The way from a handler to whoever answers.
#[derive(Clone)]
pub struct Door {
    route: Route,
}

#[derive(Clone)]
enum Route {
    Direct,
    Node { inbox: Arc<Inbox<Input>>, runtime: usize, reply: Reply },
    Inside { arrived: Arc<Notify> },
}

impl Door {
    /// Answers a Put.
    pub async fn put(&self, put: PutRequest) -> PutResponse {
        match &self.route {
            Route::Direct => direct(&put),
            Route::Node { inbox, reply: Reply::Oneshot, .. } => {
                let (sender, receiver) = oneshot::channel();
                inbox.push(Input::Put(put, To::Oneshot(sender)));
                receiver.await.expect("the node answers everything")
            }
            Route::Node { inbox, runtime, reply: Reply::Slot } => {
                let pending = Pending::open(&SLOTS);
                inbox.push(Input::Put(put, To::Slot(*runtime, pending.ticket())));
                pending.await
            }
            Route::Inside { arrived } => {
                let pending = Pending::open(&SLOTS);
                arrive(arrived, Input::Put(put, To::Slot(0, pending.ticket())));
                pending.await
            }
        }
    }
}

fn direct(put: &PutRequest) -> PutResponse {
    let revision = i64::try_from(put.value.len()).unwrap_or(i64::MAX);
    let header = ResponseHeader { cluster_id: 1 << 63, member_id: 1 << 62, revision, raft_term: 2 };
    PutResponse { header: Some(header), prev_kv: None }
}

fn arrive(notify: &Notify, input: Input) {
    let first = ARRIVED.with_borrow_mut(|a| {
        a.push(input);
        a.len() == 1
    });
    if first {
        notify.notify_one();
    }
}

/// Runs until it is killed.
pub fn run(options: &Options) -> Result<()> {
    let mailboxes: Vec<_> = (0..options.runtimes).map(|_| Arc::default()).collect();
    let inbox: Arc<Inbox<Input>> = Arc::default();
    if options.layout == Layout::Node {
        let wake: Arc<dyn Fn(Input) + Send + Sync> = Arc::new({
            let inbox = Arc::clone(&inbox);
            move |input| inbox.push(input)
        });
        let node = new_node(options, mailboxes.clone(), &wake)?;
        let inbox = Arc::clone(&inbox);
        thread::Builder::new().name("node".into()).spawn(move || node.run(&inbox))?;
    }
    let mut runtimes = Vec::new();
    for (runtime, mailbox) in mailboxes.into_iter().enumerate() {
        let (sender, connections) = mpsc::unbounded_channel();
        let route = match options.layout {
            Layout::Direct => Route::Direct,
            Layout::Inside => Route::Inside { arrived: Arc::default() },
            Layout::Node => {
                Route::Node { inbox: Arc::clone(&inbox), runtime, reply: options.reply }
            }
        };
        let (options, door) = (options.clone(), Door { route });
        thread::Builder::new()
            .name(format!("runtime-{runtime}"))
            .spawn(move || runtime_thread(&options, door, &mailbox, connections))?;
        runtimes.push(sender);
    }
    accept(options.listen, &runtimes)
}

fn new_node(
    options: &Options,
    mailboxes: Vec<Arc<Mailbox<PutResponse>>>,
    wake: &Arc<dyn Fn(Input) + Send + Sync>,
) -> Result<Node> {
    let own = matches!(options.wal, Wal::Inline | Wal::Adaptive);
    let log = own.then(|| Log::create(&options.dir)).transpose()?;
    let mut to_wal = None;
    if matches!(options.wal, Wal::Thread | Wal::Adaptive) {
        let dir = options.dir.join("wal-thread");
        std::fs::create_dir_all(&dir)?;
        let (log, persists, wake) = (Log::create(&dir)?, Arc::default(), Arc::clone(wake));
        let from: Arc<Inbox<Persist>> = Arc::clone(&persists);
        thread::Builder::new().name("wal".into()).spawn(move || wal::run(log, &from, &wake))?;
        to_wal = Some(persists);
    }
    Ok(Node::new(options.wal, log, to_wal, mailboxes))
}

fn runtime_thread(
    options: &Options,
    door: Door,
    mailbox: &Arc<Mailbox<PutResponse>>,
    connections: mpsc::UnboundedReceiver<TcpStream>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let of_task = Arc::clone(mailbox);
        tokio::spawn(async move { of_task.dispatch(&SLOTS).await });
        if let Route::Inside { arrived } = &door.route {
            let (wake, durable) = inside_waker();
            let node = new_node(options, vec![Arc::clone(mailbox)], &wake)?;
            tokio::spawn(inside(node, Arc::clone(arrived)));
            tokio::spawn(forward(durable, Arc::clone(arrived)));
        }
        stacks::serve(options.stack, door, connections).await
    })
}

type Wake = Arc<dyn Fn(Input) + Send + Sync>;

/// For a node inside the runtime: how the WAL thread reaches it.
fn inside_waker() -> (Wake, mpsc::UnboundedReceiver<Input>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Arc::new(move |input| drop(sender.send(input))), receiver)
}

async fn forward(mut durable: mpsc::UnboundedReceiver<Input>, arrived: Arc<Notify>) {
    while let Some(input) = durable.recv().await {
        arrive(&arrived, input);
    }
}

/// The node as a task: woken by the first arrival, it runs after the tasks that were ready then.
async fn inside(mut node: Node, arrived: Arc<Notify>) {
    let mut batch = Vec::new();
    loop {
        arrived.notified().await;
        ARRIVED.with_borrow_mut(|a| std::mem::swap(a, &mut batch));
        node.step(&mut batch);
        SLOTS.with_borrow_mut(|s| node.replies().for_each(|(t, reply)| s.complete(t, reply)));
    }
}

fn accept(listen: SocketAddr, runtimes: &[mpsc::UnboundedSender<TcpStream>]) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot bind {listen}"))?;
    eprintln!("ready to serve client requests");
    for i in 0.. {
        let (tcp, _) = listener.accept()?;
        tcp.set_nodelay(true)?;
        tcp.set_nonblocking(true)?;
        runtimes[i % runtimes.len()].send(tcp).context("a runtime has gone")?;
    }
    unreachable!("the loop has no end")
}
