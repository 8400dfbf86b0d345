//! The crate `quorate-client` against the real server.

mod kv;
mod txn;
