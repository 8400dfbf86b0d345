//! The engine's bounds.

/// Longest key the engine takes, in bytes: the disk format stores the length in 16 bits.
pub const MAX_KEY_BYTES: usize = 65_535;

/// Longest user key, in bytes, that fits into a composite key whatever its bytes are: written by
/// [`crate::keys::put_user_key`] it takes at most half as much again and two bytes.
pub const MAX_USER_KEY_BYTES: usize = 32 * 1024 - 1;

/// What a composite key may add to a user key, in bytes: prefixes, identities, revisions.
pub const MAX_KEY_DECORATION_BYTES: usize = 1024;

/// Most sealed tables that wait to become durable. At this bound the node refuses proposals.
pub const MAX_SEALED_TABLES: usize = 4;

/// Active bytes at which the owner seals. Switching tables costs the disk engine tens of milliseconds
/// in the background, so they are not made smaller than this outside tests.
pub const ACTIVE_TABLE_BYTES: u64 = 32 << 20;

const _: () = assert!(
    MAX_USER_KEY_BYTES + MAX_USER_KEY_BYTES.div_ceil(2) + 2 + MAX_KEY_DECORATION_BYTES
        <= MAX_KEY_BYTES
);
