//! Connections of DTM's clients: as those of etcd's, with the same bounds, but nothing of etcd's on them.

use std::sync::Arc;

use super::{Api, Trace, call};
use crate::serve::{self, Connections};

/// Starts taking connections on this runtime.
#[must_use]
pub fn start(api: Api) -> Connections {
    let (stopping, metrics) = (api.stopping.clone(), Arc::clone(&api.metrics));
    serve::take(stopping, metrics, move |request| {
        let trace = Trace::of(request.headers());
        let api = Api { trace, ..api.clone() };
        async move { Ok(call(&api, request).await) }
    })
}
