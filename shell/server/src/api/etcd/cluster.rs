//! The Cluster service: MemberList, MemberAdd, MemberRemove, MemberUpdate, MemberPromote.

use quorate_consensus::NodeId;
use quorate_node::{MemberChange, MemberInfo, Stamp};
use quorate_wire::etcdserverpb as pb;
use tonic::Status;

use super::{Api, convert, errors};
use crate::config::values::Url;
use crate::identity;

/// The members, by id.
pub(super) async fn list(
    api: Api,
    request: pb::MemberListRequest,
) -> Result<pb::MemberListResponse, Status> {
    let answer = api.handle.members(request.linearizable).await;
    let (stamp, members) = answer.map_err(|failure| errors::failure(&failure))?;
    Ok(pb::MemberListResponse { header: api.identity.header(stamp), members: all(members) })
}

/// Adds a member, as a learner if asked. Its id comes from its addresses and the clock, so that one
/// that was removed never comes back under its old id.
pub(super) async fn add(
    api: Api,
    request: pb::MemberAddRequest,
) -> Result<pb::MemberAddResponse, Status> {
    let peer_urls = checked(request.peer_ur_ls)?;
    let id = identity::added_member(&peer_urls, &api.cluster_token, std::time::SystemTime::now());
    let learner = request.is_learner;
    let (stamp, members) = api.change(MemberChange::Add { id, peer_urls, learner }).await?;
    let member = members.iter().find(|member| member.id == id.0).cloned();
    Ok(pb::MemberAddResponse {
        header: api.identity.header(stamp),
        member: member.map(convert::member),
        members: all(members),
    })
}

/// Removes a member for ever.
pub(super) async fn remove(
    api: Api,
    request: pb::MemberRemoveRequest,
) -> Result<pb::MemberRemoveResponse, Status> {
    let (stamp, members) = api.change(MemberChange::Remove { id: NodeId(request.id) }).await?;
    Ok(pb::MemberRemoveResponse { header: api.identity.header(stamp), members: all(members) })
}

/// Changes a member's peer addresses.
pub(super) async fn update(
    api: Api,
    request: pb::MemberUpdateRequest,
) -> Result<pb::MemberUpdateResponse, Status> {
    let peer_urls = checked(request.peer_ur_ls)?;
    let change = MemberChange::Update { id: NodeId(request.id), peer_urls };
    let (stamp, members) = api.change(change).await?;
    Ok(pb::MemberUpdateResponse { header: api.identity.header(stamp), members: all(members) })
}

/// Lets a learner vote.
pub(super) async fn promote(
    api: Api,
    request: pb::MemberPromoteRequest,
) -> Result<pb::MemberPromoteResponse, Status> {
    let (stamp, members) = api.change(MemberChange::Promote { id: NodeId(request.id) }).await?;
    Ok(pb::MemberPromoteResponse { header: api.identity.header(stamp), members: all(members) })
}

impl Api {
    async fn change(&self, change: MemberChange) -> Result<(Stamp, Vec<MemberInfo>), Status> {
        let answer = self.handle.change_member(change).await;
        answer.map_err(|failure| errors::failure(&failure))
    }
}

/// Addresses that other members can use: at least one, all of them readable; sorted, as etcd does.
fn checked(urls: Vec<String>) -> Result<Vec<String>, Status> {
    let mut read = Vec::with_capacity(urls.len());
    for url in &urls {
        read.push(Url::parse(url).map_err(|_| errors::bad_member_urls())?.to_string());
    }
    if read.is_empty() {
        return Err(errors::bad_member_urls());
    }
    read.sort();
    Ok(read)
}

fn all(members: Vec<MemberInfo>) -> Vec<pb::Member> {
    members.into_iter().map(convert::member).collect()
}
