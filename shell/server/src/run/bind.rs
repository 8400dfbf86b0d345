//! Taking addresses and signals: the two things of the process that can be taken already.

use std::net::IpAddr;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::config::values::Url;
use crate::exit::Fatal;

/// Bound addresses.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) clients: Vec<TcpListener>,
    pub(super) peers: Vec<TcpListener>,
    pub(super) dtm: Vec<TcpListener>,
}

impl Bound {
    /// The configuration with the ports that the system has chosen where port 0 was asked for.
    pub(super) fn told(&self, config: &Config) -> Config {
        let mut told = config.clone();
        for (at, listener) in self.clients.iter().enumerate() {
            let Ok(address) = listener.local_addr() else { continue };
            for urls in [&mut told.listen_client, &mut told.advertise_client] {
                if let Some(url) = urls.get_mut(at).filter(|url| url.port == 0) {
                    url.port = address.port();
                }
            }
        }
        told.listen_dtm = self.dtm.iter().filter_map(url_of).collect();
        told
    }
}

/// Binds everything that the configuration names. The peer address is bound only if there are peers,
/// or if the user asked for it.
///
/// # Errors
/// `Runtime`, naming the address.
pub(super) async fn all(config: &Config) -> Result<Bound, Fatal> {
    let mut bound = Bound { clients: Vec::new(), peers: Vec::new(), dtm: Vec::new() };
    for url in &config.listen_client {
        bound.clients.push(bind(url, "listen-client-urls").await?);
    }
    if config.has_peers() || config.peer_asked {
        for url in &config.listen_peer {
            bound.peers.push(bind(url, "listen-peer-urls").await?);
        }
    }
    for url in &config.listen_dtm {
        match bind(url, "listen-dtm-urls").await {
            Ok(listener) => bound.dtm.push(listener),
            Err(fatal) if config.dtm_asked => return Err(fatal),
            // Nobody asked for it, and the rest works without.
            Err(fatal) => tracing::warn!("global transactions are not served: {fatal}"),
        }
    }
    Ok(bound)
}

/// Where a listener listens, in the system's words.
fn url_of(listener: &TcpListener) -> Option<Url> {
    let address = listener.local_addr().ok()?;
    let host = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    Some(Url { host, port: address.port() })
}

async fn bind(url: &Url, flag: &str) -> Result<TcpListener, Fatal> {
    let address = url.resolve().map_err(Fatal::Runtime)?;
    TcpListener::bind(address).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => "the port is in use by another process".to_owned(),
            _ => error.to_string(),
        };
        Fatal::Runtime(format!("cannot listen on {url} (--{flag}): {why}"))
    })
}

/// The signals that ask the process to stop.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Fatal> {
        let take = |kind| {
            signal(kind).map_err(|error| Fatal::Runtime(format!("cannot take signals: {error}")))
        };
        let interrupt = take(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: take(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
