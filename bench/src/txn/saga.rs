//! Clients of the saga rows: a two-branch saga over HTTP or gRPC, and the loop that does the same by hand.
//!
//! *By hand* is what a saga has to be at least: a durable put before, between and after two calls, each by the same
//! client over connections that are kept. Its puts are etcd's to another process of the same binary, 256 B each; its
//! calls are those of the saga, same participants, URLs and bodies, and go out from the client.

use crate::closed::{self, Client, CpuMeter};
use crate::keys::{Rng, key, value};
use crate::limits::{CALL_TIMEOUT, KEYS, START_POLL};
use crate::proc::Pid;
use crate::rows::kv::put;
use crate::sample::Sample;
use crate::txn::http::HttpConn;
use crate::txn::participants::Participants;
use crate::wire::Conn;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use quorate_wire::dtmgimp::dtm_client::DtmClient;
use quorate_wire::dtmgimp::{DtmRequest, DtmTransOptions};
use quorate_wire::etcdserverpb::kv_client::KvClient;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where sagas are submitted over HTTP.
pub const SUBMIT: &str = "/api/dtmsvr/submit";
/// What a branch is told.
const PAYLOAD: &str = r#"{"amount":30}"#;

/// Who names transactions: no two clients of a run, and no two runs, have a name in common.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: String,
    next: u64,
    given: Arc<AtomicU64>,
}

impl Names {
    /// Names of one client; `given` counts those of all.
    pub fn new(run: &str, client: usize, given: &Arc<AtomicU64>) -> Self {
        Self { prefix: format!("{run}.{client}-"), next: 0, given: Arc::clone(given) }
    }

    /// One that nobody has.
    pub fn fresh(&mut self) -> String {
        self.next += 1;
        self.given.fetch_add(1, Ordering::Relaxed);
        format!("{}{}", self.prefix, self.next)
    }
}

/// The steps of a saga: an action at each participant, the second at `last`.
pub fn steps(participants: [SocketAddr; 2], first: &str, last: &str) -> String {
    let [a, b] = participants;
    format!(
        r#"[{{"action":"http://{a}{first}","compensate":"http://{a}/ok"}},{{"action":"http://{b}{last}","compensate":"http://{b}/ok"}}]"#
    )
}

/// A saga's body over HTTP: `payload` for each branch, and more fields.
pub fn body(gid: &str, steps: &str, payload: &str, more: &str) -> String {
    let payload = payload.replace('"', "\\\"");
    format!(
        r#"{{"gid":"{gid}","trans_type":"saga","steps":{steps},"payloads":["{payload}","{payload}"]{more}}}"#
    )
}

/// Submits sagas over HTTP.
pub struct OverHttp {
    conn: HttpConn,
    names: Names,
    steps: String,
    more: &'static str,
}

impl Client for OverHttp {
    async fn once(&mut self) -> Result<()> {
        let body = body(&self.names.fresh(), &self.steps, PAYLOAD, self.more);
        self.conn.done(SUBMIT, body).await
    }
}

/// Submits sagas over gRPC; the branches are called over HTTP all the same.
pub struct OverGrpc {
    dtm: DtmClient<Conn>,
    names: Names,
    steps: String,
}

impl Client for OverGrpc {
    async fn once(&mut self) -> Result<()> {
        let payload = Bytes::from_static(PAYLOAD.as_bytes());
        let request = DtmRequest {
            gid: self.names.fresh(),
            trans_type: "saga".to_owned(),
            trans_options: Some(DtmTransOptions { wait_result: true, ..Default::default() }),
            bin_payloads: vec![payload.clone(), payload],
            steps: self.steps.clone(),
            ..Default::default()
        };
        self.dtm.submit(request).await?;
        Ok(())
    }
}

/// The same by hand.
pub struct ByHand {
    kv: KvClient<Conn>,
    conns: [HttpConn; 2],
    names: Names,
    rng: Rng,
    value: Bytes,
}

impl ByHand {
    async fn put(&mut self) -> Result<()> {
        self.kv.put(put(key(self.rng.below(KEYS)), &self.value)).await?;
        Ok(())
    }
}

impl Client for ByHand {
    async fn once(&mut self) -> Result<()> {
        let gid = self.names.fresh();
        for (i, branch) in ["01", "02"].into_iter().enumerate() {
            self.put().await?;
            let path = format!("/ok?gid={gid}&trans_type=saga&branch_id={branch}&op=action");
            self.conns[i].done(&path, PAYLOAD.to_owned()).await?;
        }
        self.put().await
    }
}

/// What is loaded in a saga row.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where transactions are submitted over HTTP, or over gRPC.
    pub dtm: Vec<SocketAddr>,
    /// Where keys are put.
    pub kv: Vec<SocketAddr>,
    /// The processes whose CPU time counts.
    pub pids: Vec<Pid>,
}

/// How a row loads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Over HTTP, waiting for each saga's end.
    Waiting,
    /// Over HTTP, waiting for the acknowledgement alone.
    Unawaited,
    /// Over gRPC, waiting for the end.
    Grpc,
    /// By hand.
    ByHand,
}

/// Connections that gRPC clients share.
const GRPC_CONNS: usize = 4;

/// One run of `clients` clients; `run` names it among all of this server.
pub async fn measure(
    place: &Place,
    participants: &Participants,
    how: How,
    run: &str,
    clients: usize,
    length: Duration,
) -> Result<Sample> {
    let before = participants.succeeded();
    let given = Arc::new(AtomicU64::new(0));
    let names = |client| Names::new(run, client, &given);
    let steps = steps(participants.addresses(), "/ok", "/ok");
    let pids = &place.pids;
    let sample = match how {
        How::Waiting | How::Unawaited => {
            let more = if how == How::Waiting { r#","wait_result":true"# } else { "" };
            let mut all = Vec::with_capacity(clients);
            for i in 0..clients {
                let conn = HttpConn::open(place.dtm[i % place.dtm.len()]).await?;
                all.push(OverHttp { conn, names: names(i), steps: steps.clone(), more });
            }
            if how == How::Unawaited {
                return unawaited(all, participants, &given, pids, length).await;
            }
            closed::run(all, pids, length).await?
        }
        How::Grpc => {
            let conns = Conn::open_many(&place.dtm, GRPC_CONNS).await?;
            let client = |i: usize| OverGrpc {
                dtm: conns[i % GRPC_CONNS].dtm(),
                names: names(i),
                steps: steps.clone(),
            };
            closed::run((0..clients).map(client).collect(), pids, length).await?
        }
        How::ByHand => {
            let conns = Conn::open_many(&place.kv, GRPC_CONNS).await?;
            let mut all = Vec::with_capacity(clients);
            for i in 0..clients {
                let [a, b] = participants.addresses();
                let kv = conns[i % GRPC_CONNS].kv();
                let conns = [HttpConn::open(a).await?, HttpConn::open(b).await?];
                let (rng, value) = (Rng::new(i as u64), value(i as u64));
                all.push(ByHand { kv, conns, names: names(i), rng, value });
            }
            closed::run(all, pids, length).await?
        }
    };
    let (begun, called) = (given.load(Ordering::Relaxed), participants.succeeded() - before);
    ensure!(called >= 2 * begun, "{begun} sagas were done, and only {called} branches called");
    Ok(sample)
}

/// Submits for `length`, then waits until everything that was submitted is done: that long it took. Latencies are those
/// of the submits.
async fn unawaited(
    clients: Vec<OverHttp>,
    participants: &Participants,
    given: &AtomicU64,
    pids: &[Pid],
    length: Duration,
) -> Result<Sample> {
    let (before, begun, first) = (participants.succeeded(), Instant::now(), CpuMeter::begin(pids)?);
    let submits = closed::run(clients, pids, length).await?;
    let sagas = given.load(Ordering::Relaxed);
    let drained = async {
        while participants.succeeded() - before < 2 * sagas {
            tokio::time::sleep(START_POLL).await;
        }
    };
    tokio::time::timeout(CALL_TIMEOUT, drained).await.context("not all sagas came to their end")?;
    let (secs, meter) = (begun.elapsed().as_secs_f64(), first.end(pids)?);
    Ok(Sample {
        rate: sagas as f64 / secs,
        cpu_us: meter.server_us as f64 / sagas.max(1) as f64,
        generator_us: meter.generator_us as f64 / sagas.max(1) as f64,
        ..submits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_are_counted() {
        let given = Arc::default();
        let (mut a, mut b) = (Names::new("r1", 0, &given), Names::new("r1", 1, &given));
        assert_eq!([a.fresh(), a.fresh(), b.fresh()], ["r1.0-1", "r1.0-2", "r1.1-1"]);
        assert_eq!(given.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_body_is_a_saga_of_two_steps() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let steps = steps([at(1), at(2)], "/ok", "/hold");
        assert_eq!(
            body("g", &steps, r#"{"n":1}"#, r#","wait_result":true"#),
            r#"{"gid":"g","trans_type":"saga","steps":[{"action":"http://127.0.0.1:1/ok","compensate":"http://127.0.0.1:1/ok"},{"action":"http://127.0.0.1:2/hold","compensate":"http://127.0.0.1:2/ok"}],"payloads":["{\"n\":1}","{\"n\":1}"],"wait_result":true}"#
        );
    }
}
