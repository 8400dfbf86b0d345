//! The members of the group as clients see them, and the checks of a change (etcd spec, 1.10).
//!
//! Names and addresses travel in the `context` of each member of the replicated membership, so that one
//! log entry changes both who counts and where it is reached. Any node takes a request for a change: it
//! is replicated as a command, and whoever leads when that command is applied checks it against the
//! membership of that moment and proposes the new one under the same origin ([`crate::envelope`]).

use bytes::{BufMut, Bytes};
use quorate_consensus::{Member, Membership, NodeId};

use crate::limits::{MAX_LEARNERS, MAX_MEMBER_TEXT, MAX_MEMBER_URLS};
use crate::wire::{Reader, put_text};
use crate::{MemberChange, MemberInfo, MemberRefusal};

/// Version of the context's format.
const CONTEXT_VERSION: u8 = 1;

/// Builds a member of a membership from what clients see of it.
#[must_use]
pub fn to_member(info: &MemberInfo) -> Member {
    let mut context = vec![CONTEXT_VERSION];
    put_text(&mut context, &info.name);
    for urls in [&info.peer_urls, &info.client_urls] {
        context.put_u16_le(urls.len().min(MAX_MEMBER_URLS) as u16);
        for url in urls.iter().take(MAX_MEMBER_URLS) {
            put_text(&mut context, url);
        }
    }
    Member { id: NodeId(info.id), learner: info.learner, context: Bytes::from(context) }
}

/// What clients see of a member; `None` if its context is not ours.
#[must_use]
pub fn to_info(member: &Member) -> Option<MemberInfo> {
    let mut reader = Reader::new(&member.context);
    if reader.u8()? != CONTEXT_VERSION {
        return None;
    }
    let name = reader.text(MAX_MEMBER_TEXT)?;
    let peer_urls = read_urls(&mut reader)?;
    let client_urls = read_urls(&mut reader)?;
    reader.end()?;
    Some(MemberInfo { id: member.id.0, name, peer_urls, client_urls, learner: member.learner })
}

fn read_urls(reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let count = usize::from(reader.u16()?);
    if count > MAX_MEMBER_URLS {
        return None;
    }
    (0..count).map(|_| reader.text(MAX_MEMBER_TEXT)).collect()
}

/// The first membership of a group from its configured members.
#[must_use]
pub fn initial_membership(members: &[MemberInfo]) -> Membership {
    let mut members: Vec<Member> = members.iter().map(to_member).collect();
    members.sort_by_key(|member| member.id);
    Membership { members, removed: Vec::new() }
}

/// All members as clients see them. A member without a readable context shows its id alone.
#[must_use]
pub fn infos(membership: &Membership) -> Vec<MemberInfo> {
    let bare = |m: &Member| MemberInfo { id: m.id.0, learner: m.learner, ..MemberInfo::default() };
    membership.members.iter().map(|m| to_info(m).unwrap_or_else(|| bare(m))).collect()
}

/// The membership after `change`, or why it is refused. `in_sync` says whether a learner's log has
/// caught up with the leader's.
pub(crate) fn changed(
    current: &Membership,
    change: &MemberChange,
    in_sync: impl Fn(NodeId) -> bool,
) -> Result<Membership, MemberRefusal> {
    let mut members = infos(current);
    let mut removed = current.removed.clone();
    match change {
        MemberChange::Add { id, peer_urls, learner } => {
            check_add(&members, &removed, *id, peer_urls, *learner)?;
            let peer_urls = peer_urls.clone();
            members.push(MemberInfo {
                id: id.0,
                peer_urls,
                learner: *learner,
                ..MemberInfo::default()
            });
        }
        MemberChange::Remove { id } => {
            let member = find(&members, *id)?.clone();
            members.retain(|other| other.id != id.0);
            if !member.learner {
                check_started(&members, false)?;
            }
            removed.push(*id);
            removed.sort();
        }
        MemberChange::Promote { id } => {
            let member = find_mut(&mut members, *id)?;
            if !member.learner {
                return Err(MemberRefusal::NotLearner);
            }
            if !in_sync(*id) {
                return Err(MemberRefusal::LearnerNotReady);
            }
            member.learner = false;
        }
        MemberChange::Update { id, peer_urls } => {
            find(&members, *id)?;
            check_urls_free(&members, Some(*id), peer_urls)?;
            find_mut(&mut members, *id)?.peer_urls.clone_from(peer_urls);
        }
        MemberChange::Publish { id, name, client_urls } => {
            let member = find_mut(&mut members, *id)?;
            member.name.clone_from(name);
            member.client_urls.clone_from(client_urls);
        }
    }
    let mut members: Vec<Member> = members.iter().map(to_member).collect();
    members.sort_by_key(|member| member.id);
    Ok(Membership { members, removed })
}

impl MemberChange {
    /// The member that the change touches.
    #[must_use]
    pub fn id(&self) -> NodeId {
        match self {
            Self::Add { id, .. }
            | Self::Remove { id }
            | Self::Update { id, .. }
            | Self::Promote { id }
            | Self::Publish { id, .. } => *id,
        }
    }
}

fn check_add(
    members: &[MemberInfo],
    removed: &[NodeId],
    id: NodeId,
    peer_urls: &[String],
    learner: bool,
) -> Result<(), MemberRefusal> {
    if members.iter().any(|member| member.id == id.0) || removed.contains(&id) {
        return Err(MemberRefusal::IdExists);
    }
    check_urls_free(members, None, peer_urls)?;
    if !learner {
        return check_started(members, true);
    }
    if members.iter().filter(|member| member.learner).count() >= MAX_LEARNERS {
        return Err(MemberRefusal::TooManyLearners);
    }
    Ok(())
}

fn check_urls_free(
    members: &[MemberInfo],
    except: Option<NodeId>,
    urls: &[String],
) -> Result<(), MemberRefusal> {
    let taken = members
        .iter()
        .filter(|member| Some(NodeId(member.id)) != except)
        .any(|member| member.peer_urls.iter().any(|url| urls.contains(url)));
    if taken { Err(MemberRefusal::PeerUrlExists) } else { Ok(()) }
}

/// The voters that have started must be a majority of the voters to be (etcd's strict
/// reconfiguration check). A single member may always add a second one: there is no other way.
fn check_started(members: &[MemberInfo], adding: bool) -> Result<(), MemberRefusal> {
    let voters = members.iter().filter(|member| !member.learner);
    let started = voters.clone().filter(|member| !member.name.is_empty()).count();
    let voters = voters.count() + usize::from(adding);
    if adding && voters == 2 && started == 1 {
        return Ok(());
    }
    if started < voters / 2 + 1 { Err(MemberRefusal::NotEnoughStarted) } else { Ok(()) }
}

fn find(members: &[MemberInfo], id: NodeId) -> Result<&MemberInfo, MemberRefusal> {
    members.iter().find(|member| member.id == id.0).ok_or(MemberRefusal::NotFound)
}

fn find_mut(members: &mut [MemberInfo], id: NodeId) -> Result<&mut MemberInfo, MemberRefusal> {
    members.iter_mut().find(|member| member.id == id.0).ok_or(MemberRefusal::NotFound)
}

#[cfg(test)]
mod tests;
