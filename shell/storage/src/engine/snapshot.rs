//! A view of everything published, for any thread.
//!
//! Registered while any copy of it lives, which holds back the watermark: old tables and files stay. So it
//! is to be held for a bounded time (contract 10). It outlives the engine's owner and thread.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use lsm_tree::{AbstractTree, SeqNo};
use quorate_engine::{Direction, EngineError, MAX_KEY_BYTES, Pair, Read};

use super::{Shared, failure, read};

/// See the module. Copies are cheap and share the registration.
#[derive(Clone)]
pub struct DiskSnapshot(Arc<Registration>);

struct Registration {
    shared: Arc<Shared>,
    boundary: SeqNo,
}

impl DiskSnapshot {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let boundary = shared.boundary.register();
        Self(Arc::new(Registration { shared, boundary }))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.boundary.unregister(self.boundary);
    }
}

impl Read for DiskSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if key.len() > MAX_KEY_BYTES {
            return Ok(None);
        }
        let value = self.0.shared.tree.get(key, self.0.boundary).map_err(failure)?;
        Ok(value.map(read::detached))
    }

    fn scan<'a>(
        &'a self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Pair, EngineError>> + 'a> {
        read::scan(&self.0.shared.tree, range, direction, self.0.boundary)
    }
}
