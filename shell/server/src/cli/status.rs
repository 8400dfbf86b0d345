//! `quorate status`: one line a member, asked over the same API that clients use.

use std::time::Duration;

use quorate_wire::etcdserverpb as pb;
use quorate_wire::etcdserverpb::cluster_client::ClusterClient;
use quorate_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};

use crate::config::flags;
use crate::exit::Fatal;
use crate::terminal::say;

/// How long one endpoint may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What one endpoint says.
struct Answer {
    endpoint: String,
    result: Result<(String, pb::StatusResponse), String>,
}

/// Shows the cluster.
pub(super) fn status(args: &[String]) -> Result<(), Fatal> {
    let mut endpoints = vec!["http://127.0.0.1:2379".to_owned()];
    let mut as_json = false;
    for given in flags::split(args)? {
        match (given.name.as_str(), given.value) {
            ("endpoints", Some(value)) => endpoints = value.split(',').map(with_scheme).collect(),
            ("json", None) => as_json = true,
            (name, _) => {
                return Err(Fatal::Usage(format!("unknown or incomplete flag --{name} of status")));
            }
        }
    }
    let answers = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fatal::Runtime(error.to_string()))?
        .block_on(ask_all(&endpoints));
    if as_json {
        print_json(&answers)
    } else {
        print_lines(&answers)
    }
    if answers.iter().all(|answer| answer.result.is_ok()) {
        return Ok(());
    }
    Err(Fatal::Runtime("not every endpoint has answered".to_owned()))
}

fn with_scheme(endpoint: &str) -> String {
    if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") }
}

/// One endpoint is enough to find the others; several are asked as they are.
async fn ask_all(endpoints: &[String]) -> Vec<Answer> {
    let mut all = endpoints.to_vec();
    if let [one] = endpoints {
        let found = members(one).await.unwrap_or_default();
        let others = found.iter().filter_map(|member| member.client_ur_ls.first()).cloned();
        let others: Vec<String> = others.collect();
        if others.len() > 1 {
            all = others;
        }
    }
    let mut answers = Vec::new();
    for endpoint in all {
        let result = ask(&endpoint).await;
        answers.push(Answer { endpoint, result });
    }
    answers
}

async fn channel(endpoint: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).map_err(|error| error.to_string())?;
    let endpoint = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT);
    endpoint.connect().await.map_err(|error| {
        // The outer error says only that there was one.
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    })
}

async fn members(endpoint: &str) -> Result<Vec<pb::Member>, String> {
    let mut client = ClusterClient::new(channel(endpoint).await?);
    let answer = client.member_list(pb::MemberListRequest { linearizable: false }).await;
    Ok(answer.map_err(|status| status.message().to_owned())?.into_inner().members)
}

async fn ask(endpoint: &str) -> Result<(String, pb::StatusResponse), String> {
    let mut client = MaintenanceClient::new(channel(endpoint).await?);
    let answer = client.status(pb::StatusRequest {}).await;
    let status = answer.map_err(|status| status.message().to_owned())?.into_inner();
    let own = status.header.as_ref().map_or(0, |header| header.member_id);
    let found = members(endpoint).await?;
    let name = found.into_iter().find(|member| member.id == own).map(|member| member.name);
    Ok((name.unwrap_or_default(), status))
}

fn role(status: &pb::StatusResponse) -> &'static str {
    let own = status.header.as_ref().map_or(0, |header| header.member_id);
    match (status.is_learner, status.leader) {
        (true, _) => "learner",
        (_, 0) => "no leader",
        (_, leader) if leader == own => "leader",
        _ => "follower",
    }
}

fn print_lines(answers: &[Answer]) {
    for Answer { endpoint, result } in answers {
        match result {
            Err(error) => say(format_args!("{endpoint}: no answer: {error}")),
            Ok((name, status)) => {
                let revision = status.header.as_ref().map_or(0, |header| header.revision);
                say(format_args!(
                    "{endpoint}: {name}, {}, term {}, revision {revision}, applied entry {}, store {} KiB",
                    role(status),
                    status.raft_term,
                    status.raft_applied_index,
                    status.db_size / 1024,
                ));
                for error in &status.errors {
                    say(format_args!("  {error}"));
                }
            }
        }
    }
}

fn print_json(answers: &[Answer]) {
    let members: Vec<Value> = answers.iter().map(to_json).collect();
    say(format_args!("{}", json!({ "members": members })));
}

fn to_json(answer: &Answer) -> Value {
    match &answer.result {
        Err(error) => json!({ "endpoint": answer.endpoint, "error": error }),
        Ok((name, status)) => {
            let header = status.header.unwrap_or_default();
            json!({
                "endpoint": answer.endpoint,
                "name": name,
                "cluster_id": format!("{:x}", header.cluster_id),
                "member_id": format!("{:x}", header.member_id),
                "role": role(status),
                "term": status.raft_term,
                "leader_id": format!("{:x}", status.leader),
                "revision": header.revision,
                "committed_index": status.raft_index,
                "applied_index": status.raft_applied_index,
                "store_bytes": status.db_size,
                "quota_bytes": status.db_size_quota,
                "errors": status.errors,
            })
        }
    }
}
