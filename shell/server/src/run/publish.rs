//! A started member tells the cluster its name and where clients reach it, unless that is known already.
//! When this is done, a write and a read have succeeded: the server is ready.

use std::time::Duration;

use quorate_consensus::NodeId;
use quorate_kv::KeyspaceId;
use quorate_node::{Failure, MemberChange};

use crate::config::Config;
use crate::config::values::Url;
use crate::handle::Handle;

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Returns when it has succeeded, however long it takes until there is a leader.
pub(super) async fn publish(handle: Handle, id: NodeId, config: &Config) {
    let client_urls: Vec<String> = config.advertise_client.iter().map(Url::to_string).collect();
    while let Err(failure) = attempt(&handle, id, &config.name, &client_urls).await {
        tracing::debug!(%failure, "not ready yet");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn attempt(
    handle: &Handle,
    id: NodeId,
    name: &str,
    client_urls: &[String],
) -> Result<(), Failure> {
    let linearizable = !handle.status().await?.learner;
    handle.view(KeyspaceId::ETCD, linearizable).await?;
    let (_, members) = handle.members(false).await?;
    let told = |urls: &[String]| urls == client_urls;
    if members.iter().any(|m| m.id == id.0 && m.name == name && told(&m.client_urls)) {
        return Ok(());
    }
    let (name, client_urls) = (name.to_owned(), client_urls.to_vec());
    handle.change_member(MemberChange::Publish { id, name, client_urls }).await?;
    Ok(())
}
