//! The faces of the server: one module a protocol, one file a service. Each turns its own requests into
//! the node's and the node's answers into its own, at the rim; no face knows of another.

pub mod dtm;
pub mod etcd;
pub(crate) mod stored;
pub(crate) mod time;
pub mod v1;
