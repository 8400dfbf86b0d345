//! The suites, one module each. `QUORATE_E2E_SERVER` names the server to test (default: ours);
//! `QUORATE_E2E_NODES=1` leaves out what needs three of them.
//!
//! | suite | what it shows |
//! |---|---|
//! | `probe` | 200 calls answered as etcd 3.5 answers them |
//! | `etcdctl`, `recipes` | the commands of a user, with their exact output |
//! | `kv`, `watch`, `lease`, `limits`, `http` | the traps of the specification that the probe leaves out |
//! | `crash` | kill -9 at any moment loses nothing that was acknowledged |
//! | `durability` | every acknowledgement leaves after the fdatasync that covers it |
//! | `disk_full` | a full disk refuses writes, loses nothing, and clears by itself |
//! | `three_nodes`, `network` | any one of three may die, stop, or be cut off |
//! | `identity` | who has lost what it promised is refused by its peers |
//! | `start_up` | wrong starts: one sentence, an exit code, nothing touched |
//! | `operations` | `quorate status` and `quorate inspect`, which changes nothing |
//! | `dtm` | global transactions over DTM's HTTP protocol: statuses, bodies, calls of branches |
//! | `checklist` | what DTM promises its users, one test for each promise |
//! | `operators` | stuck transactions, `quorate txn` and `/v1/`: who did what and why, on any member |
//! | `openapi` | requests made from the OpenAPI document: none is answered with a 5xx or against it |
//! | `dtmcli` | the same through DTM's Python client, unchanged |
//! | `go_client` | and through its Go client: every kind, over HTTP, JSON-RPC and gRPC |
//! | `client` | our own library: workflows, 3pc, nested TCC; keys, watches and leases through kills |
//! | `demo` | `quorate demo` on one and three nodes under kills: the sums agree, nothing is left behind |
//! | `databases` | branch barriers and XA over PostgreSQL, MariaDB and Redis, under kills |
//! | `outgoing` | calls of branches: trace context over HTTP and gRPC, TLS, results of earlier steps |
//! | `garbage` | bad bytes from one client do not disturb another |
//! | `slow` | a request that does not come is not waited for, a stream that is silent is |

mod checklist;
mod client;
mod crash;
mod databases;
mod demo;
mod disk_full;
mod dtm;
mod dtmcli;
mod durability;
mod etcdctl;
mod garbage;
mod go_client;
mod http;
mod identity;
mod kv;
mod lease;
mod limits;
mod network;
mod openapi;
mod operations;
mod operators;
mod outgoing;
mod probe;
mod recipes;
mod slow;
mod start_up;
mod three_nodes;
mod watch;

use etcd_client::Error;
use tonic::Code;

/// The gRPC code and text of an error, for comparison with etcd's table.
fn status(error: Error) -> (Code, String) {
    match error {
        Error::GRpcStatus(status) => (status.code(), status.message().to_owned()),
        other => panic!("not a gRPC status: {other}"),
    }
}

/// Asserts that a call was refused with this code and etcd's text after the prefix "etcdserver: ".
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, code: Code, text: &str) {
    let found = status(answer.expect_err("this call is refused"));
    assert_eq!(found, (code, format!("etcdserver: {text}")));
}

/// Whether tests of several members may run.
fn three_nodes_allowed(name: &str) -> bool {
    let alone = std::env::var("QUORATE_E2E_NODES").is_ok_and(|nodes| nodes == "1");
    if alone {
        quorate_e2e::tools::skip(name, "QUORATE_E2E_NODES=1");
    }
    !alone
}
