//! The Rust library for programs that take part in global transactions.
//!
//! Two kinds of program do. One *starts* transactions: it asks a [`Coordinator`] (Quorate, or anything else
//! that speaks DTM's HTTP protocol) through a builder of the kind it wants: [`Tcc`], [`Saga`], [`Message`],
//! [`ThreePhase`], [`Xa`], or a function of its own as one of its [`Workflows`].
//! The other *is a branch*: an HTTP service that the coordinator calls, at least once and perhaps in an
//! order that nobody meant. It learns from [`BranchCall`] which step of which transaction a request is,
//! passes the [`Barrier`] inside the very local transaction that makes its change, and answers with
//! [`Done`] or a [`BranchError`].
//!
//! ```no_run
//! # use quorate_client::*;
//! # async fn pay() -> Result<(), Error> {
//! let coordinator = Coordinator::new("http://127.0.0.1:36789/api/dtmsvr");
//! let gid = coordinator.new_gid().await?;
//! let mut order = Tcc::begin(&coordinator, &gid, Options::default()).await?;
//! let stock = TccBranch {
//!     try_url: "http://stock/try".into(),
//!     confirm_url: "http://stock/confirm".into(),
//!     cancel_url: "http://stock/cancel".into(),
//!     body: r#"{"item":7,"quantity":2}"#.into(),
//! };
//! match order.call_branch(&stock).await {
//!     Ok(_) => order.submit().await,
//!     Err(why) => order.abort(&why.to_string()).await,
//! }
//! # }
//! ```
//!
//! | for | see | cargo feature |
//! |---|---|---|
//! | branches over SQLite, PostgreSQL, MySQL and MariaDB | [`barrier`] | `sqlite` (default), `postgres`, `mysql` |
//! | branches over Redis | `redis_barrier` | `redis` |
//! | functions that outlive the program: workflows | [`workflow`] | |
//! | coordinators and branches behind `https://` | [`http`] | `tls` |
//! | keys, watches, leases, from the same servers | `kv` | `kv` |
//! | branches whose database keeps the change ready: XA | [`xa`] | `postgres`, `mysql` |
//!
//! Left out so far: gRPC. The trait [`BarrierTable`] is all that another database has to fill in.

pub mod barrier;
pub mod branch;
pub mod coordinator;
pub mod error;
pub mod http;
#[cfg(feature = "kv")]
pub mod kv;
pub mod message;
pub mod options;
#[cfg(feature = "redis")]
pub mod redis_barrier;
pub mod saga;
pub mod tcc;
pub mod three_phase;
pub mod workflow;
pub mod xa;

pub use barrier::{Barrier, BarrierTable, Entry};
pub use branch::{BranchCall, BranchError, Done};
pub use coordinator::Coordinator;
pub use error::Error;
pub use http::{Http, Patience};
pub use message::Message;
pub use options::Options;
pub use saga::{Saga, SagaStep, StepInput};
pub use tcc::{NestedTcc, Tcc, TccBranch};
pub use three_phase::{Participant, ThreePhase, ThreePhaseBranch, Told};
pub use workflow::{Ended, Flow, StepError, Workflows};
pub use xa::{Xa, XaBranch, XaCall};
