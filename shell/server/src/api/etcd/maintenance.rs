//! The Maintenance service: Status, Alarm, Hash, HashKV, MoveLeader, Defragment.

use quorate_consensus::NodeId;
use quorate_kv::{Alarm, AlarmKind, Command, Reply};
use quorate_node::{Stamp, Status as NodeStatus};
use quorate_wire::etcdserverpb as pb;
use tonic::Status;

use super::{Api, convert, errors, kv};
use crate::VERSION_TOLD;

/// This member's view of itself.
pub(super) async fn status(api: Api, _: pb::StatusRequest) -> Result<pb::StatusResponse, Status> {
    let status = api.status().await?;
    let leader = status.leader.map_or(0, |leader| leader.0);
    let mut errors: Vec<String> = status.alarms.iter().map(alarm_text).collect();
    if status.disk_full {
        errors.push("the local disk is full: writes are refused until there is space".to_owned());
    }
    if leader == 0 {
        errors.push("etcdserver: no leader".to_owned());
    }
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    Ok(pb::StatusResponse {
        header: api.identity.header(stamp(&status)),
        version: VERSION_TOLD.to_owned(),
        db_size: bytes(status.usage.total_bytes()),
        leader,
        raft_index: status.commit.0,
        raft_term: status.term.0,
        raft_applied_index: status.applied.0,
        errors,
        db_size_in_use: bytes(status.usage.in_use_bytes()),
        is_learner: status.learner,
        storage_version: String::new(),
        db_size_quota: bytes(status.quota_bytes),
        downgrade_info: None,
    })
}

fn stamp(status: &NodeStatus) -> Stamp {
    Stamp { revision: status.revision, term: status.term }
}

fn alarm_text(alarm: &Alarm) -> String {
    let kind = convert::alarm_type(alarm.kind).as_str_name();
    format!("memberID:{} alarm:{kind} ", alarm.member)
}

/// Shows, raises or clears alarms.
pub(super) async fn alarm(
    api: Api,
    request: pb::AlarmRequest,
) -> Result<pb::AlarmResponse, Status> {
    let kind = match request.alarm {
        1 => Some(AlarmKind::NoSpace),
        2 => Some(AlarmKind::Corrupt),
        _ => None,
    };
    let member = request.member_id;
    let command = match (request.action, kind) {
        (0, _) => return standing(&api, member, kind).await,
        (1, Some(kind)) => Command::AlarmRaise(Alarm { member, kind }),
        (2, Some(kind)) => Command::AlarmClear(Alarm { member, kind }),
        // Nothing to raise or clear: etcd answers with no alarm.
        _ => return Ok(pb::AlarmResponse { header: header(&api).await?, alarms: Vec::new() }),
    };
    match api.command(command, 0).await? {
        (stamp, Reply::Alarm { revision, alarms }) => Ok(pb::AlarmResponse {
            header: api.identity.header_at(stamp, revision),
            alarms: alarms.iter().map(alarm_member).collect(),
        }),
        (_, other) => Err(kv::wrong(&other)),
    }
}

async fn standing(
    api: &Api,
    member: u64,
    kind: Option<AlarmKind>,
) -> Result<pb::AlarmResponse, Status> {
    // The barrier makes an alarm visible here that another member has already been told of.
    api.view(true).await?;
    let status = api.status().await?;
    let wanted = |alarm: &&Alarm| {
        (member == 0 || alarm.member == member) && kind.is_none_or(|kind| alarm.kind == kind)
    };
    Ok(pb::AlarmResponse {
        header: api.identity.header(stamp(&status)),
        alarms: status.alarms.iter().filter(wanted).map(alarm_member).collect(),
    })
}

fn alarm_member(alarm: &Alarm) -> pb::AlarmMember {
    pb::AlarmMember { member_id: alarm.member, alarm: convert::alarm_type(alarm.kind) as i32 }
}

/// Hash of everything replicated. Walks over the whole store, on the pool.
pub(super) async fn hash(api: Api, _: pb::HashRequest) -> Result<pb::HashResponse, Status> {
    let (stamp, view) = api.view(false).await?;
    let hash = api.on_pool(move || view.hash()).await?;
    let hash = hash.map_err(|error| api.engine_failed(&error))?;
    Ok(pb::HashResponse { header: api.identity.header(stamp), hash })
}

/// Hash of what is visible at a revision.
pub(super) async fn hash_kv(
    api: Api,
    request: pb::HashKvRequest,
) -> Result<pb::HashKvResponse, Status> {
    let (stamp, view) = api.view(false).await?;
    let result = api.scan(false, move || view.hash_kv(request.revision)).await?;
    Ok(pb::HashKvResponse {
        header: api.identity.header(stamp),
        hash: result.hash,
        compact_revision: result.compact_revision.0,
        hash_revision: result.revision.0,
    })
}

/// Hands leadership over; etcd's answer has no header.
pub(super) async fn move_leader(
    api: Api,
    request: pb::MoveLeaderRequest,
) -> Result<pb::MoveLeaderResponse, Status> {
    let moved = api.handle.move_leader(NodeId(request.target_id)).await;
    moved.map_err(|failure| errors::failure(&failure))?;
    Ok(pb::MoveLeaderResponse { header: None })
}

/// Gives the space of what is dead back at once. etcd's answer has no header.
pub(super) async fn defragment(
    api: Api,
    _: pb::DefragmentRequest,
) -> Result<pb::DefragmentResponse, Status> {
    api.handle.defragment().await.map_err(|failure| errors::failure(&failure))?;
    Ok(pb::DefragmentResponse { header: None })
}

async fn header(api: &Api) -> Result<Option<pb::ResponseHeader>, Status> {
    Ok(api.identity.header(stamp(&api.status().await?)))
}

impl Api {
    async fn status(&self) -> Result<NodeStatus, Status> {
        self.handle.status().await.map_err(|failure| errors::failure(&failure))
    }
}
