//! Room is made at once: what is sealed for it, in which order it is answered, and when it ends.

use std::time::Duration;

use quorate_engine::Engine;
use quorate_kv::{Command, DeleteRequest, KeyRange, Refusal};

use super::harness::{World, complete_checkpoints, config};
use crate::{Failure, Input, Reply, Request};

fn world(table_bytes: u64) -> World {
    let mut world = World::new(vec![crate::Config { table_bytes, ..config(1) }]);
    world.run(Duration::from_millis(100));
    world
}

fn is_done(world: &mut World, request: u64) -> bool {
    match world.replies.remove(&request) {
        None => false,
        Some(Reply::Done { .. }) => true,
        other => panic!("{other:?}"),
    }
}

/// Outputs so far: tables sealed, merges asked for.
fn asked(world: &World) -> (usize, usize) {
    let server = &world.servers[&1];
    (server.sealed, server.defragments)
}

fn waiting(world: &mut World) -> usize {
    world.servers.get_mut(&1).expect("it").node.engine_mut().usage().sealed_tables
}

/// Puts, deletes all of it with one command, compacts.
fn make_garbage(world: &mut World, keys: usize) {
    for i in 0..keys {
        let request = world.put(1, &format!("key{i:04}"), "some value");
        assert!(world.revision(request).is_ok(), "put {i}");
        if waiting(world) > 1 {
            complete_checkpoints(world, 1);
        }
    }
    let range = KeyRange { key: "key".into(), range_end: "kez".into() };
    let request = world.command(1, Command::Delete(DeleteRequest { range, prev_kv: false }));
    let revision = world.revision(request).expect("deleted");
    let request = world.command(1, Command::Compact { revision });
    assert!(world.revision(request).is_ok());
}

#[test]
fn a_table_is_sealed_early_and_answered_when_durable_and_merged() {
    let mut world = world(1 << 20);
    make_garbage(&mut world, 20);
    world.run(Duration::from_millis(100));
    assert_eq!(asked(&world), (0, 0));
    let request = world.ask(1, Request::Defragment);
    assert_eq!(asked(&world), (1, 1));
    world.step(1, Input::Defragmented);
    assert!(!is_done(&mut world, request), "that merge began before the checkpoint");
    complete_checkpoints(&mut world, 1);
    assert!(!is_done(&mut world, request), "not merged yet");
    world.step(1, Input::Defragmented);
    assert!(is_done(&mut world, request));

    let again = world.ask(1, Request::Defragment);
    assert_eq!(asked(&world), (1, 2), "there was nothing to seal");
    world.step(1, Input::Defragmented);
    assert!(is_done(&mut world, again));
    world.restart(1);
    world.run(Duration::from_millis(100));
    assert_eq!(world.get(1, "key0003"), Ok(None));
}

#[test]
fn a_full_table_on_a_quiet_node_does_not_hold_it_up() {
    let mut world = world(10_000);
    make_garbage(&mut world, 1_000);
    for _ in 0..10 {
        if waiting(&mut world) > 0 {
            complete_checkpoints(&mut world, 1);
        }
        world.run(Duration::from_millis(200));
    }
    assert!(world.servers[&1].node.kv().has_garbage(), "the table is full and nothing comes");
    let request = world.ask(1, Request::Defragment);
    for _ in 0..10 {
        if waiting(&mut world) > 0 {
            complete_checkpoints(&mut world, 1);
        }
        world.run(Duration::from_millis(200));
    }
    assert!(!world.servers[&1].node.kv().has_garbage());
    assert_eq!(asked(&world).1, 1);
    world.step(1, Input::Defragmented);
    assert!(is_done(&mut world, request));
    let entries = world.servers[&1].node.status().last;
    world.run(Duration::from_secs(5));
    assert_eq!(world.servers[&1].node.status().last, entries, "no entries without need");
}

#[test]
fn a_physical_compaction_is_answered_when_the_sweep_is_done() {
    let mut world = world(10_000);
    make_garbage(&mut world, 3_000);
    assert!(world.servers[&1].node.kv().has_garbage());
    let request = world.ask(1, Request::FinishCompaction);
    // The engine's thread is stuck, and with it the sweep, for longer than any request may take.
    world.run(Duration::from_secs(20));
    assert!(!is_done(&mut world, request), "the tables are full of tombstones, the rest stands");
    for _ in 0..30 {
        if waiting(&mut world) > 0 {
            complete_checkpoints(&mut world, 1);
        }
        world.run(Duration::from_millis(200));
    }
    assert!(!world.servers[&1].node.kv().has_garbage());
    assert!(is_done(&mut world, request));
    assert_eq!(asked(&world).1, 0, "no files were merged for it");
    let again = world.ask(1, Request::FinishCompaction);
    assert!(is_done(&mut world, again), "there is nothing to do");
}

#[test]
fn time_runs_out_before_and_after_the_checkpoint() {
    let mut world = world(1 << 20);
    make_garbage(&mut world, 20);
    let request = world.ask(1, Request::Defragment);
    world.run(Duration::from_secs(8));
    let reply = world.replies.remove(&request);
    assert!(matches!(reply, Some(Reply::Failed(Failure::Timeout))), "{reply:?}");
    let request = world.ask(1, Request::Defragment);
    complete_checkpoints(&mut world, 1);
    world.run(Duration::from_secs(6));
    assert!(!is_done(&mut world, request));
    world.run(Duration::from_secs(2));
    assert!(is_done(&mut world, request), "the merge goes on, but nobody has to wait");
}

#[test]
fn the_quota_counts_tables_that_are_not_durable_yet() {
    let config = crate::Config { quota_bytes: 3_000, table_bytes: 1_000, ..config(1) };
    let mut world = World::new(vec![config]);
    world.run(Duration::from_millis(100));
    let mut last = Ok(0);
    for i in 0..50 {
        let request = world.put(1, &format!("key{i}"), "some value");
        last = world.revision(request);
        if last.is_err() {
            break;
        }
    }
    assert_eq!(last, Err(Refusal::NoSpace.into()));
    assert!((1..4).contains(&waiting(&mut world)));
}
