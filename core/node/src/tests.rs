//! The node alone and among three, over the in-memory engine, with a disk that answers when told to.

mod defragment;
mod harness;
mod layers;
mod lone;
mod three;
