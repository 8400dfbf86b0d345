//! The real binary against real clients.
//!
//! Everything else in this repository tests values that are stepped; here a server is a process with a
//! data directory, sockets and a power switch. The suites live in `tests/it/`, one module each, and
//! share what is in this library:
//!
//! | module | what it gives |
//! |---|---|
//! | [`tools`] | which server, etcdctl, Python, strace there are; `skip` names what could not run |
//! | [`go`] | the programs in `e2e/go`, built: DTM's Go client |
//! | [`process`] | a child process with captured output that is always killed, and only it |
//! | [`server`], [`cluster`] | one server or three on ephemeral ports: kill, stop, pause, restart |
//! | [`history`], [`load`] | what clients were told, and whether the store agrees |
//! | [`netns`] | machines in network namespaces: one-way cuts, isolation, loss |
//! | [`mount`] | small file systems that can fill up |
//! | [`trace`] | the order of system calls: was it on disk before it was acknowledged? |
//! | [`raw`], [`http1`] | gRPC calls and HTTP requests that no client library would make |
//! | [`database`] | PostgreSQL, MariaDB and Redis, which can be killed |
//! | [`participant`], [`grpc_participant`] | a branch of global transactions that answers as told and remembers what it was asked |
//! | [`tls`] | an authority of our own, and TLS in front of such a branch |
//! | [`attack`] | bytes that no honest client would send |
//! | [`tree`] | a directory's contents before and after |
//!
//! Invariants: a suite that cannot run says so in one line, `skipped: NAME: reason`, and passes; it
//! never passes silently. Each suite passes against etcd 3.5 (`QUORATE_E2E_SERVER=/path/to/etcd`)
//! unless it checks what etcd does not promise. No fixed ports; nothing outlives its test.
//!
//! Left out: clients in other languages than Rust, Go and Python, and everything that needs an hour.

pub mod attack;
pub mod cluster;
pub mod database;
pub mod go;
pub mod grpc_participant;
pub mod history;
pub mod http1;
pub mod limits;
pub mod load;
pub mod mount;
pub mod netns;
pub mod participant;
pub mod ports;
pub mod process;
pub mod raw;
pub mod server;
pub mod tls;
pub mod tools;
pub mod trace;
pub mod tree;
