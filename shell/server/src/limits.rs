//! Every bound of the server, by name. Overload is an error reply, never growth.

use std::time::Duration;

/// Largest request that is proposed, in bytes (etcd's `max-request-bytes`).
pub const MAX_REQUEST_BYTES: usize = 1_572_864;

/// What a message may have beyond that before gRPC itself refuses it, in bytes (etcd's).
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// Largest value that `--max-request-bytes` may have: a log record holds 16 MiB.
pub const LARGEST_MAX_REQUEST_BYTES: usize = 10 << 20;

/// Requests that wait for the node thread; more are refused as overload.
pub const MAX_INBOX_REQUESTS: usize = 65_536;

/// Bytes of requests that wait for the node thread; more are refused as overload.
pub const MAX_INBOX_BYTES: usize = 128 << 20;

/// Messages of peers that wait for the node thread, in bytes; more are dropped, as a network may.
pub const MAX_INBOX_MESSAGE_BYTES: usize = 128 << 20;

/// Bytes of events that wait for one runtime; more, and its watchers read history instead.
pub const MAX_MAILBOX_EVENT_BYTES: usize = 128 << 20;

/// Bytes of keys and values in replies that wait for one runtime; more, and the newest are answered
/// with "request timed out" instead.
pub const MAX_MAILBOX_REPLY_BYTES: usize = 256 << 20;

/// Records of one batch that the node thread writes to the log itself: a put is one. What arrives meanwhile has to wait for
/// that sync anyway, and two wakes are saved: 20 % of a TCC's time with 8 clients. With more under way the WAL thread's
/// hop no longer shows, and the two threads overlap (decision 0001).
pub const MAX_INLINE_SYNC_RECORDS: usize = 16;

/// Bytes of one batch that the node thread writes to the log itself.
pub const MAX_INLINE_SYNC_BYTES: usize = 64 << 10;

/// The node thread writes the log itself only while recent syncs took less than this.
pub const MAX_INLINE_SYNC: Duration = Duration::from_millis(2);

/// Connections of clients, over all addresses.
pub const MAX_CONNECTIONS: usize = 16_384;

/// HTTP/2 streams of one connection that may be open at a time.
pub const MAX_STREAMS_PER_CONNECTION: u32 = 16_384;

/// HTTP/2 receive window of one stream, in bytes: the largest message fits (decision 0001).
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// HTTP/2 receive window of a connection, in bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// Bytes of a request that are read off without a use, after its message or instead of it, while its end is
/// waited for.
pub const UNREAD_BYTES: usize = 64 << 10;

/// How long the one message of a gRPC call, or the body of a request in DTM's protocol, may take to come.
pub const BODY_TIME: Duration = Duration::from_secs(30);

/// Bytes that HTTP/2 may hold for one stream whose reader is slow.
pub const SEND_BUFFER_BYTES: usize = 1 << 20;

/// Longest request head that HTTP/1 reads, in bytes.
pub const HTTP1_HEAD_BYTES: usize = 64 << 10;

/// Bytes of encoded responses that wait in one watch stream; the hub holds back beyond that.
pub const WATCH_STREAM_BYTES: usize = 4 << 20;

/// Keep-alive responses of one stream that wait for the client.
pub const KEEP_ALIVE_RESPONSES: usize = 128;

/// Size at which a memory table of the engine is sealed, in bytes, and the most that
/// `--engine-table-bytes` may ask for: the watermarks of the disk's free space are made for it.
pub const TABLE_BYTES: u64 = 32 << 20;

/// Least that `--engine-table-bytes` may ask for: each table becomes a file and an fsync.
pub const LEAST_TABLE_BYTES: u64 = 64 << 10;

/// Bytes of the log's tail that are kept in memory for members that lag.
pub const LOG_CACHE_BYTES: usize = 64 << 20;

/// Bounds of `--log-cache-bytes`, in bytes.
pub const LOG_CACHE_BOUNDS: (usize, usize) = (64 << 10, 4 << 30);

/// How long a client waits before the outcome is called unknown, before two election timeouts are
/// added to it (etcd's).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Threads for reads that are too long for a thread that serves connections.
pub const BLOCKING_THREADS: usize = 4;

/// Pause before history is asked for again when the node is overloaded.
pub const HISTORY_RETRY: Duration = Duration::from_millis(20);

/// How often a watcher without events is told where it stands (etcd's default).
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(600);

/// How often the free space of the data directory is looked at.
pub const DISK_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Size of the file that reserves space for getting out of a full disk, in bytes.
pub const BALLAST_BYTES: u64 = 64 << 20;

/// Free space, in bytes, below which writes are refused: a log segment and the tables that a
/// checkpoint and its compaction write.
pub const DISK_LOW_BYTES: u64 = (64 + 2 * 4 * 32) << 20;

/// Free space, in bytes, above which writes go on: a little more, so that the state does not flap.
pub const DISK_OK_BYTES: u64 = DISK_LOW_BYTES + (32 << 20);

/// How long a shutdown waits for outstanding requests before it closes their connections.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// How long handing leadership over may take at shutdown.
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Frames that wait for one peer; beyond that the oldest are dropped and the peer is unreachable.
pub const PEER_QUEUE_FRAMES: usize = 4_096;

/// Bytes that wait for one peer.
pub const PEER_QUEUE_BYTES: usize = 64 << 20;

/// Largest frame between nodes, in bytes: an append of the largest batch.
pub const MAX_PEER_FRAME_BYTES: usize = 64 << 20;

/// Shortest and longest pause between two attempts to reach a peer.
pub const PEER_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_millis(2_000));

/// How long a transfer of a snapshot may stand still before it is given up.
pub const SNAPSHOT_STALL: Duration = Duration::from_secs(30);

/// How soon the node thread looks again whether the log has recorded an installed snapshot.
pub const INSTALL_POLL: Duration = Duration::from_millis(1);

/// How long connecting to a peer and shaking hands may take.
pub const PEER_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the messages of peers wait at a start until each peer has been asked once what it knows of this
/// node. On a healthy network it takes a few milliseconds.
pub const PEER_FIRST_ROUND: Duration = Duration::from_millis(500);

/// How often what was seen of the peers is written down, if it is new. A crash forgets what was seen since.
pub const PEER_MEMORY_INTERVAL: Duration = Duration::from_secs(10);

/// How long one write to a peer may take before its connection counts as broken.
pub const PEER_WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after a connection could not be accepted (too many open files, most likely).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that other nodes may have open here.
pub const MAX_PEER_CONNECTIONS: usize = 256;

/// Bytes of watch responses that are joined into one piece of a response body: what fits into a DATA
/// frame of HTTP/2 as peers have it by default.
pub const JOINED_RESPONSE_BYTES: usize = 15 << 10;
