//! The real binary over real sockets: each service's traps from the spec, plain HTTP, the command line,
//! crashes, and a cluster of three.

#[path = "it/cli.rs"]
mod cli;
#[path = "it/cluster.rs"]
mod cluster;
#[path = "it/crash.rs"]
mod crash;
#[path = "it/frames.rs"]
mod frames;
#[path = "it/http.rs"]
mod http;
#[path = "it/kv.rs"]
mod kv;
#[path = "it/lease.rs"]
mod lease;
#[path = "it/maintenance.rs"]
mod maintenance;
#[path = "it/process.rs"]
mod process;
#[path = "it/snapshot.rs"]
mod snapshot;
#[path = "it/watch.rs"]
mod watch;
