//! Who a node is: ids of members and clusters, derived as etcd derives them (from addresses and the
//! cluster's token), so that all first members compute the same cluster without talking.
//!
//! The hash is not etcd's: ids only have to be equal among our own nodes.

use std::time::{Duration, SystemTime};

use quorate_consensus::NodeId;
use quorate_node::MemberInfo;
use quorate_wal::ClusterId;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::Config;
use crate::config::values::Url;

/// Least id: all of ours have twenty decimal digits, as nearly all of etcd's have, so that whoever shows
/// them in columns, or keeps them in too small a type, meets nothing new here.
const LEAST_ID: u64 = 10_000_000_000_000_000_000;

/// A first member, from its peer addresses.
#[must_use]
pub fn first_member(peer_urls: &[Url], token: &str) -> NodeId {
    let mut urls: Vec<String> = peer_urls.iter().map(Url::to_string).collect();
    urls.sort();
    NodeId(id(&format!("{}\n{token}", urls.join("\n"))))
}

/// A member that is added later: the time makes it another one than an earlier at the same address.
/// `peer_urls` are sorted.
#[must_use]
pub fn added_member(peer_urls: &[String], token: &str, now: SystemTime) -> NodeId {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    NodeId(id(&format!("{}\n{token}\n{seconds}", peer_urls.join("\n"))))
}

/// The cluster that these members found.
#[must_use]
pub fn cluster(members: &[MemberInfo], token: &str) -> ClusterId {
    let mut ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    ClusterId(id(&format!("cluster\n{ids:?}\n{token}")))
}

/// The first members as configured, by id. Client addresses are published by each itself.
#[must_use]
pub fn first_members(config: &Config) -> Vec<MemberInfo> {
    let mut members: Vec<MemberInfo> = config
        .initial_cluster
        .iter()
        .map(|(name, urls)| MemberInfo {
            id: first_member(urls, &config.cluster_token).0,
            name: name.clone(),
            peer_urls: urls.iter().map(Url::to_string).collect(),
            client_urls: Vec::new(),
            learner: false,
        })
        .collect();
    members.sort_by_key(|member| member.id);
    members
}

fn id(text: &str) -> u64 {
    LEAST_ID + xxh3_64(text.as_bytes()) % (u64::MAX - LEAST_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(port: u16) -> Url {
        Url { host: "h".to_owned(), port }
    }

    #[test]
    fn the_order_of_addresses_does_not_matter() {
        assert_eq!(first_member(&[url(1), url(2)], "t"), first_member(&[url(2), url(1)], "t"));
        assert_ne!(first_member(&[url(1)], "t"), first_member(&[url(2)], "t"));
        assert_ne!(first_member(&[url(1)], "t"), first_member(&[url(1)], "u"));
    }

    #[test]
    fn a_member_that_comes_back_is_another_one() {
        let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        let urls = ["http://h:1".to_owned()];
        assert_eq!(added_member(&urls, "t", at(5)), added_member(&urls, "t", at(5)));
        assert_ne!(added_member(&urls, "t", at(5)), added_member(&urls, "t", at(6)));
    }
}
