//! Papers that are accepted, those that are not, and who stops. Connections are in the e2e suite `identity`.

use std::future::Future;

use quorate_consensus::{LogIndex, Term};
use quorate_wal::{ClusterId, Identity};

use super::*;
use crate::exit::Fatal;
use crate::inbox::Arrived;

const ME: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);
const MINE: u64 = 11;
const THEIRS: u64 = 22;

struct Case {
    dir: tempfile::TempDir,
    inbox: Arc<Inbox>,
    memory: Memory,
}

fn end(index: u64, term: u64) -> LogEnd {
    LogEnd { index: LogIndex(index), term: Term(term) }
}

fn entry(index: u64, term: u64) -> Witness {
    Witness { index: LogIndex(index), index_term: Term(term), ..Witness::default() }
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp");
        let inbox = Arc::new(Inbox::default());
        let memory = start(&dir, &inbox);
        Self { dir, inbox, memory }
    }

    fn meet(&self, kind: Kind, theirs: &Papers) -> Result<(), Objection> {
        self.memory.meet(PEER, kind, &self.memory.papers(PEER), theirs)
    }

    /// Why the node must stop, if so, and what it was told.
    fn arrived(&self) -> Arrived {
        let mut arrived = Arrived::default();
        self.inbox.take(&mut arrived, Some(std::time::Instant::now()));
        arrived
    }
}

fn start(dir: &tempfile::TempDir, inbox: &Arc<Inbox>) -> Memory {
    let identity = Identity { cluster: ClusterId(5), node: ME };
    let local = Local { identity, boot: 9, directory: MINE };
    let directories = Directories::load(dir.path()).expect("readable");
    Memory::new(local, Arc::clone(inbox), directories, end(3, 1), 1)
}

fn papers(directory: u64, yours: u64, end: LogEnd) -> Papers {
    let seen = Witness::default();
    Papers { directory, yours, groups: vec![GroupPapers { group: GROUP, end, seen }] }
}

#[tokio::test]
async fn a_peer_with_another_directory_is_refused() {
    let case = Case::new();
    assert_eq!(case.memory.papers(PEER).yours, 0);
    assert_eq!(case.meet(Kind::Messages, &papers(THEIRS, 0, end(1, 1))), Ok(()));
    assert_eq!(case.memory.papers(PEER).yours, THEIRS, "it is told so from now on");
    for other in [23, 0] {
        let met = case.meet(Kind::Messages, &papers(other, MINE, end(9, 9)));
        assert_eq!(met, Err(Objection::OtherDirectory));
    }
    assert_eq!(case.arrived().failure, None, "this node goes on");
}

#[tokio::test]
async fn a_peer_with_a_shorter_log_is_refused_and_one_that_kept_its_promises_is_not() {
    let case = Case::new();
    case.memory.saw(PEER, entry(5, 2));
    for (last, met) in [
        (end(5, 2), Ok(())),
        (end(6, 2), Ok(())),
        (end(5, 3), Ok(())),
        (end(4, 2), Err(Objection::LogTooShort)),
        (end(4, 3), Err(Objection::LogTooShort)),
        // As long, but another's: what a member that was cut off had in the older term.
        (end(9, 1), Err(Objection::LogTooShort)),
    ] {
        assert_eq!(case.meet(Kind::Messages, &papers(THEIRS, MINE, last)), met, "{last:?}");
    }
    // A snapshot's connection stands beside the one on which acknowledgements travel.
    assert_eq!(case.meet(Kind::Snapshot, &papers(THEIRS, MINE, end(4, 2))), Ok(()));
}

/// What is learnt while a handshake is under way is not held against the one that spoke before it.
#[tokio::test]
async fn only_what_was_known_before_counts() {
    let case = Case::new();
    let mine = case.memory.papers(PEER);
    let theirs = papers(THEIRS, MINE, end(4, 1));
    case.memory.saw(PEER, entry(5, 2));
    assert_eq!(case.memory.meet(PEER, Kind::Messages, &mine, &theirs), Ok(()));
}

#[tokio::test]
async fn a_node_that_is_known_by_another_directory_stops() {
    let case = Case::new();
    let member = MemberInfo { id: PEER.0, name: "m2".into(), ..MemberInfo::default() };
    case.memory.name(&[member]);
    let met = case.meet(Kind::Messages, &papers(THEIRS, MINE + 1, end(1, 1)));
    assert_eq!(met, Err(Objection::NotMyself));
    let Some(Fatal::Refused(why)) = case.arrived().failure else { panic!("it must stop") };
    for part in ["member 'm2' (2)", "another data directory", "member remove 1", "as a learner"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert_eq!(case.memory.papers(PEER).yours, 0, "it remembers nobody any more");
}

#[tokio::test]
async fn what_a_peer_saw_reaches_the_node_even_if_that_peer_is_refused() {
    let case = Case::new();
    let mut theirs = papers(THEIRS, MINE, end(1, 1));
    theirs.groups[0].seen = entry(7, 3);
    assert_eq!(case.meet(Kind::Messages, &theirs), Ok(()));
    theirs.groups[0].seen = Witness { vote_term: Term(4), vote: ME, ..entry(6, 3) };
    theirs.directory = 99;
    assert_eq!(case.meet(Kind::Messages, &theirs), Err(Objection::OtherDirectory));
    let told = case.arrived().told;
    let all = Witness { vote_term: Term(4), vote: ME, ..entry(7, 3) };
    assert_eq!(told, BTreeMap::from([(PEER, all)]));
}

#[tokio::test]
async fn what_was_seen_is_known_after_a_restart() {
    let case = Case::new();
    assert_eq!(case.meet(Kind::Messages, &papers(THEIRS, 0, end(9, 9))), Ok(()));
    let seen = Witness { vote_term: Term(4), vote: ME, ..entry(7, 3) };
    case.memory.saw(PEER, seen);
    case.memory.save().expect("written");
    let again = start(&case.dir, &case.inbox).papers(PEER);
    assert_eq!(again.groups, vec![GroupPapers { group: GROUP, end: end(3, 1), seen }]);
    assert_eq!(again.yours, THEIRS);
}

#[tokio::test]
async fn messages_wait_for_the_first_round_but_not_for_ever() {
    let begun = Instant::now();
    let case = Case::new();
    case.memory.first_round().await;
    assert!(begun.elapsed() >= PEER_FIRST_ROUND, "nobody could be asked");
    let case = Case::new();
    case.memory.asked_one();
    // Done at the first look.
    let asked = std::pin::pin!(case.memory.first_round());
    assert!(asked.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready());
}
