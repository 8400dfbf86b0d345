//! A server: how it is started, and what it says of itself.

use std::path::Path;

use super::Calls;
use crate::cli::demo::child::FreePorts;
use crate::exit::Fatal;

/// Members of the demo's cluster are on one machine, and elections are what one wants to see.
const HEARTBEAT_MS: u32 = 50;
const ELECTION_MS: u32 = 500;

/// A server that is to run.
pub(super) struct Server {
    pub(super) name: String,
    client: u16,
    peer: u16,
    dtm: u16,
}

impl Server {
    pub(super) fn new(number: usize, ports: &mut FreePorts) -> Result<Self, Fatal> {
        let name = format!("node{}", number + 1);
        Ok(Self { name, client: ports.take()?, peer: ports.take()?, dtm: ports.take()? })
    }

    pub(super) fn client(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    fn peer(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }

    pub(super) fn dtm(&self) -> String {
        format!("http://127.0.0.1:{}/api/dtmsvr", self.dtm)
    }

    pub(super) fn args(&self, dir: &Path, all: &[Self]) -> Vec<String> {
        let member = |server: &Self| format!("{}={}", server.name, server.peer());
        let members: Vec<_> = all.iter().map(member).collect();
        let mut args = vec!["server".to_owned()];
        for (flag, value) in [
            ("--name", self.name.clone()),
            ("--data-dir", dir.join(&self.name).display().to_string()),
            ("--listen-client-urls", self.client()),
            ("--listen-peer-urls", self.peer()),
            ("--initial-cluster", members.join(",")),
            ("--listen-dtm-urls", format!("http://127.0.0.1:{}", self.dtm)),
            ("--heartbeat-interval", HEARTBEAT_MS.to_string()),
            ("--election-timeout", ELECTION_MS.to_string()),
            ("--log-level", "warn".to_owned()),
        ] {
            args.extend([flag.to_owned(), value]);
        }
        args
    }
}

/// A server's metrics.
#[derive(Debug, Default)]
pub(super) struct Page(pub(super) String);

impl Page {
    fn number(&self, sample: &str) -> u64 {
        let value = |line: &str| line.strip_prefix(sample)?.trim().parse::<f64>().ok();
        self.0.lines().find_map(value).unwrap_or(0.0) as u64
    }

    /// Whether it says that it leads.
    pub(super) fn leads(&self) -> bool {
        self.number("etcd_server_is_leader ") == 1
    }

    pub(super) fn add_to(&self, calls: &mut Calls) {
        calls.succeeded += self.number("quorate_global_txn_calls_total{result=\"succeeded\"} ");
        calls.failed += self.number("quorate_global_txn_calls_total{result=\"failed\"} ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let page = Page(
            "# TYPE etcd_server_is_leader gauge\netcd_server_is_leader 1\n\
             quorate_global_txn_calls_total{result=\"succeeded\"} 12\n\
             quorate_global_txn_calls_total{result=\"failed\"} 3\n"
                .to_owned(),
        );
        let mut calls = Calls { succeeded: 1, failed: 0 };
        page.add_to(&mut calls);
        assert!(page.leads() && !Page::default().leads());
        assert_eq!(calls, Calls { succeeded: 13, failed: 3 });
    }
}
