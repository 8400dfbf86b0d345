//! The language of `testscripts/`: commands to a cluster, and the transcript of what follows.
//!
//! | command | meaning |
//! |---|---|
//! | `cluster nodes=N [cache= uncommitted= append= inflight= reads= forward=]` | N running voters, limits in bytes or messages |
//! | `elect N` | N's election timer fires, then everything settles; quiet |
//! | `campaign N` | N's election timer fires |
//! | `propose N DATA...`, `read N ID`, `time N` | inputs at node N, as one burst |
//! | `again N DATA` | the last proposal of N once more, as a network might double it |
//! | `change N add=\|learner=\|promote=\|remove=ID` | a membership change at N |
//! | `transfer N TO`, `unreachable N PEER` | inputs at node N |
//! | `deliver [from= to= kind=]` | the packets now under way that match; `settle`: until none is left; quiet |
//! | `drop [from= to= kind=]`, `double [...]` | loses or doubles the matching packets; a bare `drop` is quiet |
//! | `network` | lists the packets under way |
//! | `partition A B`, `heal` | cuts all ways between the two sides, ids separated by `/` |
//! | `slow-disk N`, `quick-disk N`, `persist N [count=]` | whether and how far writes are confirmed |
//! | `crash N [survive=]`, `restart N`, `join N` | unconfirmed writes but the first are lost; a blank node |
//! | `checkpoint N [compact=KEEP]` | the engine's checkpoint; the log before it goes but KEEP entries |
//! | `pass MS` | time, and the timers due in it; quiet |
//! | `run MS` | time in steps of 50 ms, settling after each; quiet |
//! | `status [N]`, `log N`, `progress N` | what a node believes |

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use goldenscript::{ArgumentConsumer, Command, Context, Runner};

use super::cluster::{Cluster, Packet};
use super::print;
use crate::limits::Limits;
use crate::{Flow, Input, Member, Membership, NodeId, Origin, Raft};

struct Script {
    cluster: Cluster,
    seq: BTreeMap<u64, u64>,
}

type Failure = Box<dyn Error>;

fn number<T: std::str::FromStr>(text: Option<&str>) -> Result<T, Failure> {
    let text = text.ok_or("a number is missing")?;
    text.parse().map_err(|_| format!("not a number: {text}").into())
}

fn key<T: std::str::FromStr>(
    args: &mut ArgumentConsumer<'_>,
    name: &str,
) -> Result<Option<T>, Failure> {
    args.take_key(name).map(|text| number(Some(text))).transpose()
}

fn ids(text: Option<&str>) -> Result<Vec<u64>, Failure> {
    text.ok_or("a side is missing")?.split('/').map(|id| number(Some(id))).collect()
}

/// Which packets a command means.
struct Filter {
    from: Option<u64>,
    to: Option<u64>,
    kind: Option<String>,
}

impl Filter {
    fn parse(args: &mut ArgumentConsumer<'_>) -> Result<Self, Failure> {
        let kind = args.take_key("kind").map(String::from);
        Ok(Self { from: key(args, "from")?, to: key(args, "to")?, kind })
    }

    fn matches(&self, packet: &Packet) -> bool {
        self.from.is_none_or(|from| from == packet.from)
            && self.to.is_none_or(|to| to == packet.to)
            && self.kind.as_ref().is_none_or(|kind| *kind == print::name(packet))
    }
}

impl Script {
    fn new() -> Self {
        Self { cluster: Cluster::new(0, 1, Limits::default()), seq: BTreeMap::new() }
    }

    fn execute(&mut self, command: &Command) -> Result<String, Failure> {
        let mut args = command.consume_args();
        let mut text = String::new();
        let mut quiet = false;
        match command.name.as_str() {
            "cluster" => self.start(&mut args)?,
            "elect" => {
                quiet = true;
                self.campaign(number(args.next_pos())?);
                self.settle();
            }
            "campaign" => self.campaign(number(args.next_pos())?),
            "settle" => {
                quiet = true;
                self.settle();
            }
            "deliver" => {
                let packets = self.take(&mut args)?;
                self.deliver(packets);
            }
            "drop" => {
                let all = command.args.is_empty();
                for packet in self.take(&mut args)?.iter().filter(|_| !all) {
                    writeln!(text, "lost: {}", print::packet(packet))?;
                }
            }
            "double" => {
                let filter = Filter::parse(&mut args)?;
                let packets = self.cluster.packets.iter();
                let copies: Vec<_> = packets.filter(|p| filter.matches(p)).cloned().collect();
                self.cluster.packets.extend(copies);
            }
            "network" => {
                for packet in &self.cluster.packets {
                    writeln!(text, "{}", print::packet(packet))?;
                }
            }
            "partition" => self.partition(ids(args.next_pos())?, ids(args.next_pos())?),
            "heal" => self.cluster.cut.clear(),
            "pass" => {
                quiet = true;
                self.cluster.pass(Duration::from_millis(number(args.next_pos())?));
            }
            "run" => {
                quiet = true;
                for _ in 0..number::<u64>(args.next_pos())? / 50 {
                    self.cluster.pass(Duration::from_millis(50));
                    self.settle();
                }
            }
            "status" => text = self.status(args.next_pos().map(|id| number(Some(id))).transpose()?),
            "log" => text = self.log(number(args.next_pos())?),
            "progress" => text = self.progress(number(args.next_pos())?),
            _ => self.at_node(&command.name, &mut args)?,
        }
        args.reject_next()?;
        for event in self.cluster.events.drain(..) {
            if let Some(line) = print::event(&event, quiet) {
                writeln!(text, "{line}")?;
            }
        }
        Ok(text)
    }

    fn start(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let mut limits = Limits::default();
        let bounds = [
            ("cache", &mut limits.log_cache_bytes),
            ("uncommitted", &mut limits.uncommitted_bytes),
            ("append", &mut limits.append_bytes),
            ("inflight", &mut limits.inflight_messages),
            ("reads", &mut limits.pending_reads),
            ("forward", &mut limits.forward_bytes),
        ];
        for (name, bound) in bounds {
            *bound = key(args, name)?.unwrap_or(*bound);
        }
        self.cluster = Cluster::new(key(args, "nodes")?.unwrap_or(3), 1, limits);
        Ok(())
    }

    /// Commands to one node.
    fn at_node(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Result<(), Failure> {
        let id: u64 = number(args.next_pos())?;
        match name {
            "join" => self.cluster.join(id, Vec::new()),
            "restart" => self.cluster.restart(id),
            "crash" => self.cluster.crash(id, key(args, "survive")?.unwrap_or(0)),
            "persist" => self.cluster.persist(id, key(args, "count")?.unwrap_or(usize::MAX)),
            "slow-disk" => self.cluster.node(id).quick_disk = false,
            "quick-disk" => {
                self.cluster.node(id).quick_disk = true;
                self.cluster.persist(id, usize::MAX);
            }
            "checkpoint" => {
                let keep = key(args, "compact")?;
                self.cluster.checkpoint(id, keep.is_some(), keep.unwrap_or(0));
            }
            "propose" => {
                while let Some(data) = args.next_pos() {
                    self.propose(id, data);
                }
                self.cluster.flush(id);
            }
            "again" => {
                let (data, node) = (args.next_pos().unwrap_or_default(), NodeId(id));
                let seq = self.seq.get(&id).copied().unwrap_or(0);
                let origin = Origin { node, boot: self.cluster.nodes[&id].boot, seq };
                let data = Bytes::copy_from_slice(data.as_bytes());
                self.cluster.input(id, Input::Propose { origin, data });
                self.cluster.flush(id);
            }
            "read" => {
                while let Some(read) = args.next_pos() {
                    let read = number(Some(read))?;
                    self.cluster.checks.read(id, read);
                    self.cluster.input(id, Input::Read { id: read });
                }
                self.cluster.flush(id);
            }
            "time" => self.burst(id, Input::ProposeTime),
            "change" => {
                let membership = self.changed(id, args)?;
                let origin = self.origin(id);
                self.burst(id, Input::ChangeMembership { origin, membership });
            }
            "transfer" => {
                let to = NodeId(number(args.next_pos())?);
                self.burst(id, Input::TransferLeadership { to });
            }
            "unreachable" => {
                let peer = NodeId(number(args.next_pos())?);
                self.burst(id, Input::Unreachable { peer });
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(())
    }

    fn origin(&mut self, id: u64) -> Origin {
        let seq = self.seq.entry(id).or_insert(0);
        *seq += 1;
        Origin { node: NodeId(id), boot: self.cluster.nodes[&id].boot, seq: *seq }
    }

    fn propose(&mut self, id: u64, data: &str) {
        // `x.100` is a hundred bytes.
        let data = match data.split_once('.') {
            Some((unit, times)) => unit.repeat(times.parse().unwrap_or(1)),
            None => data.into(),
        };
        let origin = self.origin(id);
        self.cluster.input(id, Input::Propose { origin, data: Bytes::from(data) });
    }

    fn burst(&mut self, id: u64, input: Input) {
        self.cluster.input(id, input);
        self.cluster.flush(id);
    }

    fn changed(&mut self, id: u64, args: &mut ArgumentConsumer<'_>) -> Result<Membership, Failure> {
        let mut membership = self.cluster.raft(id).ok_or("down")?.membership().clone();
        while let Some((what, who)) = args.next_key() {
            let who = NodeId(number(Some(who))?);
            let learner = what == "learner";
            match what {
                "remove" => {
                    membership.members.retain(|m| m.id != who);
                    membership.removed.push(who);
                }
                "add" | "learner" => {
                    membership.members.push(Member { id: who, learner, context: Bytes::new() });
                }
                "promote" => {
                    let member = membership.members.iter_mut().find(|m| m.id == who);
                    member.ok_or("no such member")?.learner = false;
                }
                _ => return Err("unknown change".into()),
            }
        }
        membership.members.sort_by_key(|m| m.id);
        Ok(membership)
    }

    fn campaign(&mut self, id: u64) {
        let now = self.cluster.now;
        if let Some(raft) = &mut self.cluster.node(id).raft {
            raft.election_at = now;
        }
        self.burst(id, Input::Tick);
    }

    fn take(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<Vec<Packet>, Failure> {
        let filter = Filter::parse(args)?;
        let packets = std::mem::take(&mut self.cluster.packets);
        let (taken, left): (Vec<_>, Vec<_>) = packets.into_iter().partition(|p| filter.matches(p));
        self.cluster.packets = left.into();
        Ok(taken)
    }

    /// Delivers as one burst to each receiver.
    fn deliver(&mut self, packets: Vec<Packet>) {
        let receivers: std::collections::BTreeSet<u64> = packets.iter().map(|p| p.to).collect();
        packets.into_iter().for_each(|packet| self.cluster.deliver(packet));
        receivers.into_iter().for_each(|id| self.cluster.flush(id));
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            if self.cluster.packets.is_empty() {
                return;
            }
            let packets = std::mem::take(&mut self.cluster.packets);
            self.deliver(packets.into());
        }
        panic!("the cluster does not come to rest");
    }

    fn partition(&mut self, one: Vec<u64>, other: Vec<u64>) {
        for a in &one {
            for b in &other {
                self.cluster.cut.insert((*a, *b));
                self.cluster.cut.insert((*b, *a));
            }
        }
    }

    fn status(&self, only: Option<u64>) -> String {
        let mut text = String::new();
        for (id, node) in self.cluster.nodes.iter().filter(|(id, _)| only.is_none_or(|o| o == **id))
        {
            let line = node.raft.as_ref().map_or_else(|| "down".into(), |raft| {
                let leader = raft.leader().map_or_else(|| "none".into(), |id| format!("n{id}"));
                format!(
                    "{:?} term {} leader {leader} last {} durable {} commit {} applied {} members {} time {}",
                    raft.role(), raft.term(), raft.last_index(), raft.persisted(), raft.commit(),
                    raft.applied(), print::membership(raft.membership()),
                    raft.group_time(self.cluster.now),
                )
            });
            text += &format!("n{id} {line}\n");
        }
        text
    }

    fn log(&self, id: u64) -> String {
        let store = &self.cluster.nodes[&id].store;
        let state = store.hard_state;
        let vote = state.vote.map_or_else(|| "nobody".into(), |vote| format!("n{vote}"));
        let start = format!("{}@{}", store.start.index, store.start.term);
        let entries = print::list(&store.entries);
        format!(
            "on disk: term {} vote {vote} commit {} log behind {start}: {entries}\n",
            state.term, state.commit
        )
    }

    fn progress(&self, id: u64) -> String {
        let line = |(id, p): (NodeId, &crate::Progress)| {
            let flow = match p.flow {
                Flow::Probe { waiting: true } => "probe, waiting",
                Flow::Probe { waiting: false } => "probe",
                Flow::Replicate => "replicate",
                Flow::Snapshot => "snapshot",
            };
            format!("n{id} matched {} next {} {flow}\n", p.matched, p.next)
        };
        self.cluster.raft(id).into_iter().flat_map(Raft::progress).map(line).collect()
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Failure> {
        self.execute(command)
    }
}

macro_rules! scripts {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                let path = concat!("testscripts/", stringify!($name));
                goldenscript::run(&mut Script::new(), path).expect("the script can be read");
            }
        )*
    };
}

scripts! {
    single_voter_elects_itself_at_once
    election_waits_for_durable_votes
    vote_reply_waits_for_persist
    one_vote_a_term_survives_a_crash
    stale_log_cannot_win
    election_behind_quorum
    pre_vote_does_not_disturb
    leader_without_quorum_steps_down
    higher_term_comes_back_to_an_old_leader
    old_term_entry_not_counted
    unpersisted_leader_entry_not_counted
    follower_acknowledges_after_persist
    conflict_truncation_and_stale_persisted
    conflict_backtracking_skips_terms
    pipelined_appends_and_window
    lost_append_is_found_by_heartbeat
    unreachable_peer_is_probed
    commit_news_travels_at_once
    read_waits_for_own_term_commit
    reads_share_a_round
    deposed_leader_confirms_no_read
    follower_reads_through_the_leader
    forwarded_read_lost_with_the_leader
    forward_delivered_twice_appended_once
    forward_for_another_term_is_dropped
    forward_refused_stays_refused
    overload_is_refused
    transfer_hands_over
    transfer_gives_up
    learner_follows_but_does_not_count
    learner_promoted
    one_change_at_a_time
    membership_reverts_on_truncation
    removed_leader_steps_down
    removed_to_a_single_voter
    unconfigured_node_never_campaigns
    snapshot_when_log_compacted
    failed_snapshot_is_tried_again
    full_window_when_log_compacted
    snapshot_not_for_a_peer_that_has_it_all
    old_entries_come_from_disk
    group_time_goes_on_across_leaders
    lost_disk_is_noticed
    restart_resumes_behind_the_checkpoint
}

#[test]
fn every_script_is_run() {
    let listed = std::fs::read_dir("testscripts").expect("the directory exists");
    let mut names: Vec<String> = listed
        .map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut expected: Vec<&str> = NAMES.to_vec();
    expected.sort_unstable();
    assert_eq!(names, expected);
}
