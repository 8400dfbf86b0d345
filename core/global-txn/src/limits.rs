//! Every bound of this crate, by name (house rule 10).
//!
//! What a request may bring is refused beyond these; what the machine keeps in memory is bounded by the
//! rest, and what does not fit waits in the keyspace's indexes.

/// Longest gid, in bytes. Keys of the keyspace contain it.
pub const MAX_GID: usize = 1024;

/// Longest branch id, in bytes.
pub const MAX_BRANCH_ID: usize = 128;

/// Longest URL, in bytes.
pub const MAX_URL: usize = 8 * 1024;

/// Rows (one an operation of a branch) that a global transaction may have. A change of any of them
/// writes the whole record.
pub const MAX_ROWS: usize = 1024;

/// Bytes of a body: steps, payloads, headers, custom data; and as many for each registered branch. The
/// node's bound on one request is stricter if it is lower.
pub const MAX_BODY: usize = 1 << 20;

/// Branch headers of a transaction.
pub const MAX_HEADERS: usize = 64;

/// Prerequisites that the `orders` of a saga may name in all.
pub const MAX_ORDERS: usize = 4096;

/// Longest name of a topic, in bytes.
pub const MAX_TOPIC: usize = 1024;

/// Subscribers of a topic.
pub const MAX_SUBSCRIBERS: usize = 256;

/// Steps of a message that may name a topic; each is written beside the record.
pub const MAX_TOPIC_STEPS: usize = 64;

/// Topics that the steps of a message may name.
pub const MAX_TOPICS_PER_TXN: usize = 16;

/// Bytes of an action's answer that a saga passes on; with a longer one the action counts as refused.
pub const MAX_PASSED: usize = 16 << 10;

/// Steps of a saga that passes results on: a call brings the answers of all steps before it.
pub const MAX_PASSING_STEPS: usize = 64;

/// Bytes of a workflow's result.
pub const MAX_RESULT: usize = 512 << 10;

/// Bytes of a reason that a record keeps; the rest is cut off.
pub const MAX_TEXT: usize = 1024;

/// The same of an answer; each row may keep one.
pub const MAX_ANSWER: usize = 512;

/// Times that a request is decided again because the record changed meanwhile. At each round some other
/// request has got through.
pub const MAX_ROUNDS: u32 = 32;

/// Requests that a node's front works on; more are refused.
pub const MAX_REQUESTS: usize = 65_536;

/// Requests with `wait_result` that wait for their transaction; more are answered at once, as if the
/// transaction went on without them.
pub const MAX_WAITERS: usize = 16_384;

/// How long one of them waits, in ms.
pub const MAX_WAIT_MS: u64 = 60_000;

/// Transactions that the driver works on; more stay in the due index until one is through.
pub const MAX_ACTIVE: usize = 8_192;

/// Bytes of a content that is kept from one call to the next while its transaction is worked on.
pub const MAX_KEPT_CONTENT: usize = 4 << 10;

/// Calls that are under way; no further transaction is taken up beyond.
pub const MAX_CALLS: usize = 16_384;

/// How long a call may wait for its turn at a busy destination, in ms; that is not the participant's fault and no reason
/// to back off.
pub const MAX_QUEUE_MS: u64 = 10_000;

/// Calls that one transaction has under way.
pub const MAX_CALLS_PER_TXN: usize = 64;

/// Transactions that are counted as stuck.
pub const MAX_STUCK: usize = 10_000;

/// Entries of the due index in memory.
pub const MAX_AGENDA: usize = 65_536;

/// Entries that one read of the due index, or of the index of finished transactions, brings.
pub const INDEX_PAGE: usize = 512;

/// How far ahead of now the due index is read, in ms.
pub const AGENDA_WINDOW_MS: u64 = 60_000;

/// Transactions that one transaction of the key-value machine forgets.
pub const PURGE_BATCH: usize = 16;

/// How often finished transactions are looked for that can be forgotten, in ms.
pub const PURGE_INTERVAL_MS: u64 = 10_000;

/// Pause before a write that was not accepted (overload, no leader) is tried again, in ms.
pub const REJECTED_PAUSE_MS: u64 = 100;

/// Pause before a write that the state machine refused (no space) is tried again, in ms.
pub const REFUSED_PAUSE_MS: u64 = 1_000;

/// Shortest time that finished transactions are kept, in ms: one that a burst of entries ends must not be
/// forgotten in that burst.
pub const MIN_RETENTION_MS: u64 = 10_000;

/// Pause before a driver that lost its ownership though its node leads takes it again, in ms.
pub const OWN_PAUSE_MS: u64 = 1_000;

/// A record whose creation lies this far from the leader's group time is stamped anew, in ms.
pub const RESTAMP_MS: u64 = 2_000;

/// How long the success of a call that must succeed may wait to be written while others are under way, in ms.
pub const MAX_AHEAD_MS: u64 = 50;

/// How long a request that cannot be proposed is decided again, in ms: longer than an election, shorter than what a
/// client waits.
pub const MAX_REJECTED_MS: u64 = 3_000;
