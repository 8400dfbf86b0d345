//! Three servers that form one cluster, on loopback or each in a network namespace.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_client::{Client, ConnectOptions, GetOptions};
use tempfile::TempDir;

use crate::limits::{POLL, RECOVERY, REQUEST};
use crate::netns::Lab;
use crate::server::{Plan, Server};

/// Members of one cluster, in the order of their names `m1`, `m2`, `m3`.
#[derive(Debug)]
pub struct Cluster {
    /// The servers; any of them may be down.
    pub members: Vec<Server>,
    // Dropped after the processes.
    _folder: TempDir,
}

impl Cluster {
    /// `count` members on loopback that serve.
    ///
    /// # Errors
    /// If one does not get ready.
    pub fn start(count: usize) -> Result<Self> {
        Self::start_with(count, |_| Vec::new())
    }

    /// The same, with further flags for each member.
    ///
    /// # Errors
    /// If one does not get ready.
    pub fn start_with(count: usize, flags: impl Fn(usize) -> Vec<String>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let plan = |index: usize| {
            let mut plan = Plan::new("")?;
            plan.extra = flags(index);
            Ok(plan)
        };
        let plans = (0..count).map(plan).collect::<Result<Vec<_>>>()?;
        Self::launch(plans, folder)
    }

    /// One member in each namespace of `lab`.
    ///
    /// # Errors
    /// If one does not get ready.
    pub fn start_in(lab: &Lab) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let plan = |index: usize| {
            let mut plan = Plan::new("")?;
            plan.host = lab.address(index);
            plan.prefix = lab.prefix(index);
            Ok(plan)
        };
        let plans = (0..lab.len()).map(plan).collect::<Result<Vec<_>>>()?;
        Self::launch(plans, folder)
    }

    fn launch(mut plans: Vec<Plan>, folder: TempDir) -> Result<Self> {
        for (index, plan) in plans.iter_mut().enumerate() {
            plan.name = format!("m{}", index + 1);
            plan.data = folder.path().join(&plan.name);
        }
        let urls: Vec<String> =
            plans.iter().map(|plan| format!("{}={}", plan.name, plan.peer_url())).collect();
        let mut members = Vec::new();
        for mut plan in plans {
            plan.cluster = Some(urls.join(","));
            members.push(plan.spawn()?);
        }
        for member in &mut members {
            member.wait_ready()?;
        }
        Ok(Self { members, _folder: folder })
    }

    /// Client URLs of all members.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(Server::client_url).collect()
    }

    /// A client that spreads over all members.
    ///
    /// # Errors
    /// If the library refuses the addresses.
    pub async fn client(&self) -> Result<Client> {
        let options = ConnectOptions::new().with_timeout(REQUEST);
        Client::connect(self.urls(), Some(options)).await.context("etcd-client")
    }

    /// The index of the leader, as at least two of `asked` members agree on it.
    ///
    /// # Errors
    /// If they do not agree within [`RECOVERY`].
    pub async fn leader(&self, asked: &[usize]) -> Result<usize> {
        let start = Instant::now();
        while start.elapsed() < RECOVERY {
            if let Some(leader) = self.agreed_leader(asked).await? {
                return Ok(leader);
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("members {asked:?} did not agree on a leader within {RECOVERY:?}")
    }

    async fn agreed_leader(&self, asked: &[usize]) -> Result<Option<usize>> {
        let mut ids = Vec::new();
        let mut said = Vec::new();
        for &index in asked {
            let mut client = self.members[index].client_within(Duration::from_secs(1)).await?;
            let Ok(status) = client.status().await else { return Ok(None) };
            let id = status.header().context("a status has a header")?.member_id();
            ids.push((id, index));
            said.push(status.leader());
        }
        let same = said.len() >= 2 && said[0] != 0 && said.iter().all(|id| *id == said[0]);
        Ok(ids.iter().find(|(id, _)| same && *id == said[0]).map(|(_, index)| *index))
    }

    /// Waits until each of `asked` answers a linearizable read and all are at one revision.
    ///
    /// # Errors
    /// If that takes longer than [`RECOVERY`].
    pub async fn converge(&self, asked: &[usize]) -> Result<i64> {
        let start = Instant::now();
        let mut last = Vec::new();
        while start.elapsed() < RECOVERY {
            last.clear();
            for &index in asked {
                last.push(self.revision(index).await);
            }
            if let [Ok(first), rest @ ..] = last.as_slice()
                && rest.iter().all(|other| matches!(other, Ok(revision) if revision == first))
            {
                return Ok(*first);
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("members {asked:?} did not converge within {RECOVERY:?}: {last:?}")
    }

    async fn revision(&self, index: usize) -> Result<i64> {
        let mut client = self.members[index].client_within(Duration::from_secs(2)).await?;
        let options = GetOptions::new().with_count_only();
        let response = client.get("converge", Some(options)).await?;
        Ok(response.header().context("a response has a header")?.revision())
    }
}
