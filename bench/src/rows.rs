//! The rows of the table.

pub mod kv;
