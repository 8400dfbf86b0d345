//! Loopback ports that nobody uses: below the kernel's ephemeral range, so that no outgoing
//! connection takes one between the look and the use, and never handed out twice by one process.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

const LOWEST: u16 = 12_000;
const COUNT: u16 = 20_000;
static NEXT: AtomicU16 = AtomicU16::new(0);

/// A TCP port on 127.0.0.1 that is free now.
///
/// # Errors
/// If none of the range is free.
pub fn free() -> Result<u16> {
    let offset = (std::process::id() % 199) as u16 * 100;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = LOWEST + offset.wrapping_add(step) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {LOWEST} and {}", LOWEST + COUNT)
}
