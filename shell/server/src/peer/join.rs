//! How a node that was added to a running cluster learns who it is: it asks the members it was told of,
//! and finds itself among them by its peer addresses, as etcd does.

use quorate_consensus::NodeId;
use quorate_consensus::codec::decode_membership;
use quorate_node::{MemberInfo, infos};
use quorate_wal::{ClusterId, Identity};

use super::frame::Frames;
use super::handshake::{Hello, Kind, bad, connect};
use super::papers::Papers;
use crate::config::Config;
use crate::config::values::Url;
use crate::exit::Fatal;

/// A cluster that this node has been added to.
#[derive(Clone, Debug)]
pub struct Found {
    /// Who this node is in it.
    pub identity: Identity,
    /// Its members.
    pub members: Vec<MemberInfo>,
}

/// Asks the other members that the configuration names.
///
/// # Errors
/// `Runtime` when none answers; `Refused` when they do not know this node's addresses.
pub async fn find_cluster(config: &Config) -> Result<Found, Fatal> {
    let others = config.initial_cluster.iter().filter(|(name, _)| *name != config.name);
    let mut last = "initial-cluster names no other member".to_owned();
    for (name, urls) in others {
        match ask(urls).await {
            Ok((cluster, members)) => return find_self(config, cluster, members),
            Err(error) => last = format!("member '{name}': {error}"),
        }
    }
    Err(Fatal::Runtime(format!("cannot join: no member of the cluster answers; {last}")))
}

pub(super) async fn ask(urls: &[Url]) -> std::io::Result<(ClusterId, Vec<MemberInfo>)> {
    let nobody = Identity { cluster: ClusterId(0), node: NodeId(0) };
    let papers = Papers::default();
    let hello = Hello { kind: Kind::Question, from: nobody, to: NodeId(0), boot: 0, papers };
    let (stream, welcome) = connect(urls, &hello).await?;
    let mut frames = Frames::new(stream);
    let answer = tokio::time::timeout(crate::limits::PEER_HANDSHAKE_TIMEOUT, frames.next());
    let content = answer.await.map_err(|_| bad("no answer in time"))??;
    let content = content.ok_or_else(|| bad("no answer"))?;
    let membership = decode_membership(content).map_err(|error| bad(&error.to_string()))?;
    Ok((welcome.identity.cluster, infos(&membership)))
}

fn find_self(
    config: &Config,
    cluster: ClusterId,
    members: Vec<MemberInfo>,
) -> Result<Found, Fatal> {
    let mut own: Vec<String> = config.advertise_peer.iter().map(Url::to_string).collect();
    own.sort();
    let same = |member: &&MemberInfo| {
        let mut urls = member.peer_urls.clone();
        urls.sort();
        urls == own
    };
    let Some(member) = members.iter().find(same) else {
        return Err(Fatal::Refused(format!(
            "the cluster has no member with the peer addresses {}: add it first (member add)",
            own.join(", ")
        )));
    };
    let identity = Identity { cluster, node: NodeId(member.id) };
    Ok(Found { identity, members })
}
