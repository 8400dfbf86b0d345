//! Random entries, with crashes, checkpoints and physical compaction in between, against the model;
//! and against a second server whose physical compaction runs at another pace.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use quorate_engine::MemEngine;
use quorate_kv::limits::TxnLimits;
use quorate_kv::*;

use crate::generate;
use crate::harness::Server;
use crate::model::Model;

/// The transaction without its writes.
fn reads_of(txn: &TxnRequest) -> TxnRequest {
    let reads = |ops: &[Op]| -> Vec<Op> {
        let read = |op: &Op| match op {
            Op::Range(range) => Some(Op::Range(range.clone())),
            Op::Txn(txn) => Some(Op::Txn(reads_of(txn))),
            Op::Put(_) | Op::Delete(_) => None,
        };
        ops.iter().filter_map(read).collect()
    };
    let (success, failure) = (reads(&txn.success), reads(&txn.failure));
    TxnRequest { compare: txn.compare.clone(), success, failure }
}

#[derive(Clone, Debug)]
enum Step {
    Apply { keyspace: u32, command: Command, passed_ms: u64 },
    Compact { budget: usize },
    Checkpoint { complete: bool },
    Crash,
}

fn step(command: impl Strategy<Value = Command> + 'static) -> impl Strategy<Value = Step> {
    let keyspace = prop_oneof![6 => Just(0u32), 1 => Just(u32::MAX), 2 => Just(256u32)];
    prop_oneof![
        20 => (keyspace, command, 0u64..1500).prop_map(|(keyspace, command, passed_ms)| {
            Step::Apply { keyspace, command, passed_ms }
        }),
        4 => (1usize..6).prop_map(|budget| Step::Compact { budget }),
        1 => any::<bool>().prop_map(|complete| Step::Checkpoint { complete }),
        1 => Just(Step::Crash),
    ]
}

/// The last one keeps no history.
const KEYSPACES: [KeyspaceId; 3] = [KeyspaceId::ETCD, KeyspaceId(u32::MAX), KeyspaceId(256)];

fn refusal<T>(result: Result<T, ReadError>) -> Result<T, Refusal> {
    result.map_err(|error| match error {
        ReadError::Refused(refusal) => refusal,
        ReadError::Engine(error) => panic!("{error}"),
    })
}

fn same_leases(server: &mut Server, model: &mut Model, keyspace: KeyspaceId) {
    let view = server.view(keyspace);
    let space = model.space(keyspace);
    let mut expected: Vec<LeaseStatus> = Vec::new();
    for (id, (ttl_s, deadline_ms)) in &space.leases {
        let id = LeaseId(*id);
        expected.push(LeaseStatus { id, ttl_s: *ttl_s, deadline_ms: *deadline_ms });
        assert_eq!(view.lease_keys(id).unwrap(), space.keys_of(id.0));
    }
    expected.sort_by_key(|lease| (lease.deadline_ms, lease.id));
    assert!(server.kv.leases(keyspace).eq(expected.iter()));
}

/// All of a history, piece by piece.
fn history<S: quorate_engine::Read>(
    view: &View<S>,
    range: &KeyRange,
    from: i64,
    max_bytes: usize,
) -> Result<Vec<(i64, Vec<Event>)>, Refusal> {
    let (mut from, mut all) = (Revision(from), Vec::new());
    while from <= view.revision {
        let piece = refusal(view.history(range, from, max_bytes))?;
        assert!(piece.next > from, "history does not move on");
        for batch in piece.batches {
            assert!(batch.revision >= from && batch.revision < piece.next);
            all.push((batch.revision.0, batch.events.to_vec()));
        }
        from = piece.next;
    }
    Ok(all)
}

fn same_history(server: &mut Server, model: &mut Model, range: &KeyRange, max_bytes: usize) {
    for keyspace in KEYSPACES {
        let view = server.view(keyspace);
        let space = model.space(keyspace);
        for from in space.compacted.max(1)..=space.revision {
            if !keyspace.keeps_history() {
                assert_eq!(history(&view, range, from, max_bytes), Err(Refusal::Compacted));
                continue;
            }
            let past = history(&view, range, from, max_bytes).unwrap();
            assert_eq!(past, space.history(range, from), "from {from}");
        }
        if space.compacted > 1 {
            let gone = history(&view, range, space.compacted - 1, max_bytes);
            assert_eq!(gone, Err(Refusal::Compacted));
        }
    }
}

fn run(server: &mut Server, step: &Step) -> Option<Applied> {
    let mut applied = None;
    match step {
        Step::Apply { keyspace, command, passed_ms } => {
            let time_ms = server.kv.time_ms() + passed_ms;
            applied = Some(server.apply(KeyspaceId(*keyspace), command, time_ms));
        }
        Step::Compact { budget } => {
            server.compact_step(*budget);
        }
        Step::Checkpoint { complete } => server.checkpoint(*complete),
        Step::Crash => server.crash(),
    }
    server.invariants();
    applied
}

fn acceptable(step: &Step) -> bool {
    match step {
        Step::Apply { command, .. } => check::check_command(command, &TxnLimits::default()).is_ok(),
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn does_what_the_model_does(
        steps in vec(step(generate::any_command()), 1..60),
        ranges in vec(generate::range_request(), 8),
        max_bytes in 0usize..200,
    ) {
        let (mut server, mut model) = (Server::default(), Model::default());
        for step in steps.iter().filter(|step| acceptable(step)) {
            let applied = run(&mut server, step);
            let Step::Apply { keyspace, command, .. } = step else { continue };
            let (keyspace, applied) = (KeyspaceId(*keyspace), applied.unwrap());
            let before = model.space(keyspace).revision;
            let reply = model.apply(keyspace, command, server.kv.time_ms());
            prop_assert_eq!(&applied.reply, &reply, "{:?}", command);
            let space = model.space(keyspace);
            prop_assert_eq!(server.kv.revision(keyspace).0, space.revision);
            prop_assert_eq!(server.kv.compact_revision(keyspace).0, space.compacted);
            let all = KeyRange { key: "".into(), range_end: "\0".into() };
            let events = applied.events.map(|batch| (batch.revision.0, batch.events.to_vec()));
            let expected = match keyspace.keeps_history() {
                true => space.history(&all, before + 1),
                false => space.full_history(&all, before + 1),
            };
            prop_assert_eq!(events, expected.last().cloned());
            for range in &ranges {
                let read = refusal(server.view(keyspace).range(range));
                prop_assert_eq!(read, model.range(keyspace, range), "{:?}", range);
            }
            same_leases(&mut server, &mut model, keyspace);
        }
        same_history(&mut server, &mut model, &ranges[0].range, max_bytes);
        server.compact_fully();
        server.invariants();
        same_history(&mut server, &mut model, &ranges[1].range, max_bytes);
        let kept = |(keyspace, space): (&KeyspaceId, &crate::model::Space)| match keyspace {
            keyspace if keyspace.keeps_history() => space.kept(),
            _ => space.live(),
        };
        let kept: usize = model.spaces.iter().map(kept).sum();
        let stored = server.pairs().iter().filter(|(key, _)| b"hv".contains(&key[0])).count();
        prop_assert_eq!(stored, kept, "compaction left or took too much");
    }

    /// Entries that skipped the checks included: replies, events and hashes do not depend on how far
    /// physical compaction is, nor on crashes.
    #[test]
    fn physical_compaction_is_invisible(
        steps in vec(step(generate::any_command()), 1..60),
        revisions in vec(0i64..40, 4),
        reads in vec(generate::range_request(), 4),
    ) {
        let (mut one, mut other) = (Server::default(), Server::default());
        for step in &steps {
            let applied = run(&mut one, step);
            let Step::Apply { .. } = step else { continue };
            let (applied, same) = (applied.unwrap(), run(&mut other, step).unwrap());
            prop_assert_eq!(&applied.reply, &same.reply);
            prop_assert_eq!(&applied.events, &same.events);
        }
        one.compact_fully();
        for keyspace in KEYSPACES {
            let (mine, theirs) = (one.view(keyspace), other.view(keyspace));
            prop_assert_eq!(mine.hash().unwrap(), theirs.hash().unwrap());
            for revision in &revisions {
                let hash = refusal(mine.hash_kv(*revision));
                prop_assert_eq!(hash, refusal(theirs.hash_kv(*revision)));
                let all = KeyRange { key: "".into(), range_end: "\0".into() };
                let past = history(&mine, &all, *revision, 50);
                prop_assert_eq!(past, history(&theirs, &all, *revision, 500));
            }
            for read in &reads {
                prop_assert_eq!(refusal(mine.range(read)), refusal(theirs.range(read)));
            }
        }
        other.compact_fully();
        prop_assert_eq!(one.pairs(), other.pairs());
    }

    /// A read-only transaction on a view and the same one as an entry give the same answer.
    #[test]
    fn reads_by_view_and_by_entry_agree(
        steps in vec(step(generate::command()), 1..30),
        txn in generate::txn(),
    ) {
        let txn = reads_of(&txn);
        prop_assert!(check::is_read_only(&txn));
        let mut server = Server::default();
        for step in steps.iter().filter(|step| acceptable(step)) {
            run(&mut server, step);
        }
        let read = refusal(server.view(KeyspaceId::ETCD).txn_read_only(&txn));
        let applied = server.apply(KeyspaceId::ETCD, &Command::Txn(txn), 0);
        prop_assert!(applied.events.is_none());
        prop_assert_eq!(applied.reply, read.map(Reply::Txn));
    }

    /// Reading never panics, whatever has become of a record.
    #[test]
    fn damaged_records_are_errors(
        steps in vec(step(generate::command()), 1..30),
        damage in vec((any::<Index>(), any::<Index>(), any::<u8>(), any::<bool>()), 1..4),
    ) {
        let mut server = Server::default();
        for step in steps.iter().filter(|step| acceptable(step)) {
            run(&mut server, step);
        }
        server.kv.checkpoint(&mut server.engine).unwrap();
        let mut pairs = server.all_pairs();
        for (which, at, byte, cut) in damage {
            let value = &mut which.get_mut(&mut pairs[..]).1;
            let mut bytes = value.to_vec();
            if cut {
                bytes.truncate(at.index(bytes.len() + 1));
            } else if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            *value = bytes.into();
        }
        let engine = MemEngine::with_checkpoint(server.kv.applied(), pairs);
        let Ok(kv) = Kv::open(&engine) else { return Ok(()) };
        let view = kv.view(KeyspaceId::ETCD, engine);
        let all = KeyRange { key: "\0".into(), range_end: "\0".into() };
        for revision in 0..=view.revision.0.min(30) {
            let range = RangeRequest { range: all.clone(), revision, ..RangeRequest::default() };
            let _ = view.range(&range);
            let _ = view.history(&all, Revision(revision), 100);
        }
        let _ = view.hash();
    }
}

#[test]
fn hashes_tell_contents_apart() {
    let put = |value: &'static str| {
        Command::Put(PutRequest { key: "k".into(), value: value.into(), ..PutRequest::default() })
    };
    let (mut one, mut other) = (Server::default(), Server::default());
    one.apply(KeyspaceId::ETCD, &put("1"), 0);
    other.apply(KeyspaceId::ETCD, &put("2"), 0);
    let hash = |server: &mut Server| server.view(KeyspaceId::ETCD).hash_kv(0).unwrap().hash;
    assert_ne!(hash(&mut one), hash(&mut other));
    one.apply(KeyspaceId::ETCD, &put("3"), 0);
    other.apply(KeyspaceId::ETCD, &put("3"), 0);
    // The same newest pair, but another history.
    assert_ne!(hash(&mut one), hash(&mut other));
}

/// `check` refuses such a transaction, but an entry that nobody checked must not fork anybody.
#[test]
fn a_key_changed_twice_in_the_compact_revision() {
    let put = |value: &'static str| {
        let (key, value) = ("k".into(), value.into());
        Op::Put(PutRequest { key, value, ..PutRequest::default() })
    };
    let delete = Op::Delete(DeleteRequest { range: KeyRange::single("k".into()), prev_kv: false });
    let twice = [put("1"), put("2"), delete, put("3")];
    let txn = TxnRequest { success: twice.to_vec(), ..TxnRequest::default() };
    let mut server = Server::default();
    server.apply(KeyspaceId::ETCD, &Command::Txn(txn), 0);
    server.apply(KeyspaceId::ETCD, &Command::Compact { revision: 2 }, 0);
    let look = |server: &mut Server| {
        let view = server.view(KeyspaceId::ETCD);
        let past = history(&view, &KeyRange::single("k".into()), 2, 1000).unwrap();
        (past, view.hash().unwrap())
    };
    let before = look(&mut server);
    assert_eq!(before.0[0].1.len(), 4);
    server.compact_fully();
    server.invariants();
    assert_eq!(look(&mut server), before);
}
