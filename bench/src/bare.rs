//! The bare gRPC server: tonic, the same messages and sizes, one current-thread runtime, and
//! answers that cost nothing. What a server adds to this is its own.

use crate::keys::value;
use crate::limits::{MAX_STREAMS, WINDOW_BYTES};
use anyhow::Result;
use clap::Args;
use quorate_wire::etcdserverpb as etcd;
use quorate_wire::etcdserverpb::kv_server::{Kv, KvServer};
use quorate_wire::mvccpb::KeyValue;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Arguments of the bare server.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Where to listen.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Not used: every server is given one.
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

struct Bare {
    value: bytes::Bytes,
}

impl Bare {
    fn header() -> Option<etcd::ResponseHeader> {
        let (cluster_id, member_id) = (0xcdf8_18ed_8e92_7a25, 0x8e9e_05c5_2164_694d);
        Some(etcd::ResponseHeader { cluster_id, member_id, revision: 1 << 20, raft_term: 2 })
    }
}

#[tonic::async_trait]
impl Kv for Bare {
    async fn range(
        &self,
        request: Request<etcd::RangeRequest>,
    ) -> Result<Response<etcd::RangeResponse>, Status> {
        let kv = KeyValue {
            key: request.into_inner().key,
            create_revision: 1 << 19,
            mod_revision: 1 << 20,
            version: 3,
            value: self.value.clone(),
            lease: 0,
        };
        let (header, kvs) = (Self::header(), vec![kv]);
        Ok(Response::new(etcd::RangeResponse { header, kvs, more: false, count: 1 }))
    }

    async fn put(
        &self,
        _: Request<etcd::PutRequest>,
    ) -> Result<Response<etcd::PutResponse>, Status> {
        Ok(Response::new(etcd::PutResponse { header: Self::header(), prev_kv: None }))
    }

    async fn txn(
        &self,
        request: Request<etcd::TxnRequest>,
    ) -> Result<Response<etcd::TxnResponse>, Status> {
        let answer = etcd::ResponseOp {
            response: Some(etcd::response_op::Response::ResponsePut(etcd::PutResponse::default())),
        };
        let responses = vec![answer; request.into_inner().success.len()];
        let (header, succeeded) = (Self::header(), true);
        Ok(Response::new(etcd::TxnResponse { header, succeeded, responses }))
    }
}

/// Runs until it is killed.
pub fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(options.listen)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener)?);
        let incoming = listener.map(|tcp| tcp.and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp)));
        eprintln!("ready to serve client requests");
        let bare = Bare { value: value(0) };
        let server = tonic::transport::Server::builder()
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_concurrent_streams(MAX_STREAMS)
            .add_service(KvServer::new(bare));
        Ok(server.serve_with_incoming(incoming).await?)
    })
}
