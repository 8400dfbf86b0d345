//! A global transaction's identity.

use std::fmt;
use std::sync::Arc;

use crate::api::Refused;
use crate::limits::MAX_GID;

/// A gid: chosen by whoever starts the transaction, unique for ever as far as this server keeps records.
/// Not empty, at most [`MAX_GID`] bytes, without line ends, semicolons and zero bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GlobalTxnId(Arc<str>);

impl GlobalTxnId {
    /// Takes a gid as a client sent it; line ends and semicolons are deleted, as DTM does.
    ///
    /// # Errors
    /// `Refused` when it is empty, too long, or holds a zero byte (which separates parts of keys).
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let dropped = ['\r', '\n', ';'];
        let gid: String = text.chars().filter(|c| !dropped.contains(c)).collect();
        if gid.is_empty() {
            return Err(Refused::error("gid is empty"));
        }
        if gid.len() > MAX_GID {
            return Err(Refused::error(format!("gid is longer than {MAX_GID} bytes")));
        }
        if gid.contains('\0') {
            return Err(Refused::error("gid contains a zero byte"));
        }
        Ok(Self(gid.into()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One that stands in a stored key.
    pub(crate) fn stored(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let gid = Self::parse(text).ok()?;
        (gid.as_str() == text).then_some(gid)
    }
}

impl fmt::Display for GlobalTxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GlobalTxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
