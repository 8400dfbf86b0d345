//! Bounds of `/v1/`.

/// Most that one page of any list brings.
pub(super) const MOST: u64 = 1000;

/// Transactions that one request looks at; a page that was not full by then ends there.
pub(super) const LOOKS: usize = 20_000;

/// Bytes of a payload that are shown.
pub(super) const HEAD_BYTES: usize = 1024;

/// Bytes of topics after which a page ends.
pub(super) const TOPIC_BYTES: usize = 1 << 20;

/// How long the body of a request may take to arrive.
pub(super) const BODY_TIME: std::time::Duration = std::time::Duration::from_secs(10);

/// Longest body of a request, in bytes.
pub(super) const BODY_BYTES: usize = 16 << 10;

/// Most characters of who intervenes, of why, and of a branch id or an operation.
pub(super) use super::types::BY_CHARS;
pub(super) const WHY_CHARS: usize = 1024;
pub(super) const NAME_CHARS: usize = 128;
