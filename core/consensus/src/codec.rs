//! Bytes of entries, memberships, hard states and messages, for the WAL and for peers.
//!
//! Every top-level value opens with a version byte, now 1; another version is an error, never a guess.
//! Decoding is total: any input gives a value or a [`DecodeError`], and allocates no more than the
//! input's length suggests. A value must use up its input. Data of commands and contexts of members are
//! slices of the input, not copies: who keeps an entry keeps the buffer that it came in.
//!
//! Primitives: `u8`; `varint`, an unsigned 64-bit LEB128 (seven bits a byte, low ones first, high bit = more
//! follows, at most 10 bytes, no superfluous trailing zero byte); `u64le`, eight bytes, for random numbers;
//! `bytes` = varint length, then that many bytes; `bool` = u8 0 or 1; `list` = varint count, then items.
//!
//! | value | bytes |
//! |---|---|
//! | entry | version u8, kind u8, term varint, index varint, time (ms) varint, payload |
//! | payload, kind 0 (empty) | nothing |
//! | payload, kind 1 (command) | origin, data bytes |
//! | payload, kind 2 (membership) | origin, membership |
//! | origin | node varint, boot u64le, seq varint |
//! | membership | version u8, list of member, list of removed id varint |
//! | member | id varint, learner bool, context bytes |
//! | hard state | version u8, term varint, vote varint (0 = none), commit varint |
//! | message | version u8, kind u8, group varint, term varint, body |
//!
//! Bodies, by kind:
//!
//! | kind | body | bytes |
//! |---|---|---|
//! | 1 | PreVote | last index varint, last term varint |
//! | 2 | PreVoteReply | asked term varint, granted bool |
//! | 3 | Vote | last index varint, last term varint, transfer bool |
//! | 4 | VoteReply | granted bool |
//! | 5 | Append | prev index varint, prev term varint, commit varint, list of entry |
//! | 6 | Accepted | last varint |
//! | 7 | Rejected | prev index varint, hint index varint, hint term varint |
//! | 8 | Heartbeat | commit varint, round varint |
//! | 9 | HeartbeatReply | round varint |
//! | 10 | Commit | commit varint |
//! | 11 | TimeoutNow | nothing |
//! | 12 | Forward | list of (origin, data bytes) |
//! | 13 | ForwardRefused | reason u8, list of origin |
//! | 14 | ReadRequest | context u64le |
//! | 15 | ReadReply | context u64le, result u8 (0 = barrier, then index varint; else reason) |
//! | 16 | NewerTerm | nothing |
//!
//! Reasons: 1 no leader, 2 leader changed, 3 transferring, 4 overloaded, 5 not leader, 6 change pending,
//! 7 invalid change.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{DecodeError, decode_entry, decode_hard_state, decode_membership, decode_message};
pub use encode::{encode_entry, encode_hard_state, encode_membership, encode_message};

/// The version of all formats of this module.
pub const FORMAT_VERSION: u8 = 1;
