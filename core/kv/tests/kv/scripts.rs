//! Transcripts: `testscripts/<subject>/<scenario>`, read as documents of what clients see.
//!
//! Commands (keys and values as written; `NUL` stands for a zero byte, `none` for nothing, `x*N` for N times x):
//!
//! - `put KEY VALUE [lease=N] [prev_kv] [ignore_value] [ignore_lease]`, `del KEY [END] [prev_kv]`,
//!   `get KEY [END] [limit=N] [rev=N] [order=ascend|descend] [target=...] [keys_only] [count_only] [min_mod=N] ...`
//! - `txn "if COND and COND then OP ; OP else OP"`, with `( ... )` for a nested one; a condition is
//!   `version|create|mod|lease|value KEY[,END] =|!=|<|> OPERAND`
//! - `compact N`, `sweep [BUDGET]` (physical compaction), `grant ID TTL`, `renew ID...`, `revoke ID`,
//!   `expire ID DEADLINE`, `leases`, `due MS`, `alarm KIND MEMBER`, `disarm KIND MEMBER`, `alarms`
//! - `clock MS` sets the group time of what follows; `keyspace N` the keyspace; `hash [REV]`, `history KEY
//!   [END] from=N`, `versions` (what the engine holds), `restart [lost]`
//! - `limits NAME=N...` (first of all), `open S`, `close S`, `watch S KEY [END] [id=N] [start=N] [prev_kv]
//!   [no_put] [no_delete] [fragment] [notify]`, `cancel S ID`, `progress S`, `tick`, `stall S`, `drain S`

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::ops::Bound;

use bytes::Bytes;
use goldenscript::Command as Line;
use quorate_engine::{Direction, Read as _};
use quorate_kv::hub::*;
use quorate_kv::limits::{HubLimits, TxnLimits};
use quorate_kv::*;

use crate::harness::Server;

mod parse;
mod print;

use parse::{Words, delete, key_range, number, put, range, txn};
use print::{print_event, print_range, print_refusal, print_reply, text};

macro_rules! scripts {
    ($($test:ident: $subject:literal),*) => {
        $(#[test]
        fn $test() {
            run_all($subject);
        })*
    };
}

scripts!(
    ranges: "range", puts: "put", deletes: "delete", txns: "txn", compaction: "compact",
    leases: "lease", alarms: "alarm", watches: "watch", keyspaces: "keyspace",
    recoveries: "recovery"
);

fn run_all(subject: &str) {
    let folder = format!("testscripts/{subject}");
    let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let files: BTreeSet<_> = files.collect();
    assert!(!files.is_empty(), "no scripts in {folder}");
    for file in files {
        goldenscript::run(&mut Runner::default(), &file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

type Outcome = Result<String, Box<dyn Error>>;

#[derive(Default)]
struct Runner {
    server: Server,
    keyspace: KeyspaceId,
    time_ms: u64,
    hub: Hub,
    out: Vec<HubOutput>,
    /// Bytes not drained; `None`: drained at once.
    stalled: BTreeMap<StreamId, usize>,
}

impl goldenscript::Runner for Runner {
    type Command = Line;

    fn run(&mut self, line: &Line, _: &goldenscript::Context) -> Outcome {
        let mut args = Words::of_line(line);
        let output = self.command(&line.name, &mut args)?;
        args.end()?;
        Ok(output)
    }
}

impl Runner {
    fn command(&mut self, name: &str, args: &mut Words) -> Outcome {
        match name {
            "put" => self.apply(Command::Put(put(args)?)),
            "del" => self.apply(Command::Delete(delete(args)?)),
            "txn" => self.txn(&txn(&args.next().ok_or("no transaction")?)?),
            "compact" => self.apply(Command::Compact { revision: number(args)? }),
            "grant" => {
                let id = LeaseId(number(args)?);
                self.apply(Command::LeaseGrant { id, ttl_s: number(args)? })
            }
            "revoke" => self.apply(Command::LeaseRevoke { id: LeaseId(number(args)?) }),
            "renew" => {
                let ids = std::iter::from_fn(|| args.next()).map(|id| id.parse().map(LeaseId));
                let ids = ids.collect::<Result<_, _>>()?;
                self.apply(Command::LeaseRenew { ids })
            }
            "expire" => {
                let id = LeaseId(number(args)?);
                self.apply(Command::LeaseExpire { id, deadline_ms: number(args)? as u64 })
            }
            "alarm" => self.apply(Command::AlarmRaise(parse::alarm(args)?)),
            "disarm" => self.apply(Command::AlarmClear(parse::alarm(args)?)),
            "clock" => self.set(|runner, n| runner.time_ms = n as u64, args),
            "keyspace" => self.set(|runner, n| runner.keyspace = KeyspaceId(n as u32), args),
            "get" | "hash" | "history" | "leases" | "due" | "alarms" | "versions" => {
                self.look(name, args)
            }
            "sweep" => {
                let budget = args.next().map_or(Ok(usize::MAX), |n| n.parse())?;
                let more = self.server.compact_step(budget);
                self.server.invariants();
                Ok(if more { "more\n".into() } else { "done\n".into() })
            }
            "restart" => self.restart(args),
            _ => self.watching(name, args),
        }
    }

    fn set(&mut self, set: fn(&mut Self, i64), args: &mut Words) -> Outcome {
        set(self, number(args)?);
        Ok(String::new())
    }

    /// Checks and applies, as a node does; prints the reply and what watchers get.
    fn apply(&mut self, command: Command) -> Outcome {
        if let Err(refusal) = check::check_command(&command, &TxnLimits::default()) {
            return Ok(print_refusal(&refusal));
        }
        let before = self.server.kv.compact_revision(self.keyspace);
        let applied = self.server.apply(self.keyspace, &command, self.time_ms);
        self.server.invariants();
        let mut output = match &applied.reply {
            Ok(reply) => print_reply(reply),
            Err(refusal) => print_refusal(refusal),
        };
        if let Some(batch) = applied.events {
            self.feed(HubInput::Events(batch), &mut output);
        }
        let revision = self.server.kv.compact_revision(self.keyspace);
        if revision != before {
            self.feed(HubInput::Compacted { keyspace: self.keyspace, revision }, &mut output);
        }
        Ok(output)
    }

    /// Served from a view where a node would do so.
    fn txn(&mut self, txn: &TxnRequest) -> Outcome {
        if let Err(refusal) = check::check_txn(txn, &TxnLimits::default()) {
            return Ok(print_refusal(&refusal));
        }
        if !check::is_read_only(txn) || check::contains_nested(txn) {
            return self.apply(Command::Txn(txn.clone()));
        }
        let result = self.server.view(self.keyspace).txn_read_only(txn).map(Reply::Txn);
        Ok(result.map_or_else(|error| print_refusal(&error), |reply| print_reply(&reply)))
    }

    fn look(&mut self, name: &str, args: &mut Words) -> Outcome {
        let view = self.server.view(self.keyspace);
        let mut out = String::new();
        match name {
            "get" => {
                let request = range(args)?;
                let checked = check::check_range(&request).map_err(ReadError::from);
                match checked.and_then(|()| view.range(&request)) {
                    Ok(result) => out = print_range(&result),
                    Err(error) => out = print_refusal(&error),
                }
            }
            "hash" => match view.hash_kv(args.next().map_or(Ok(0), |n| n.parse())?) {
                Ok(KvHash { revision, compact_revision, .. }) => {
                    writeln!(out, "hash up to {}, compacted {}", revision.0, compact_revision.0)?;
                }
                Err(error) => out = print_refusal(&error),
            },
            "history" => {
                let from = Revision(args.take("from").ok_or("from=?")?.parse()?);
                match view.history(&key_range(args)?, from, usize::MAX) {
                    Ok(history) => {
                        history.batches.iter().flat_map(|batch| batch.events.iter()).for_each(
                            |event| out.push_str(&format!("{}\n", print_event(event, true))),
                        );
                        writeln!(out, "next={}", history.next.0)?;
                    }
                    Err(error) => out = print_refusal(&error),
                }
            }
            "leases" => {
                for lease in self.server.kv.leases(self.keyspace) {
                    let keys = view.lease_keys(lease.id)?;
                    let keys: Vec<String> = keys.iter().map(text).collect();
                    let LeaseStatus { id, ttl_s, deadline_ms } = lease;
                    writeln!(out, "{} ttl={ttl_s}s deadline={deadline_ms}ms {keys:?}", id.0)?;
                }
            }
            "due" => {
                let now = number(args)? as u64;
                for (keyspace, id, deadline) in self.server.kv.due_leases(now, 10) {
                    writeln!(out, "keyspace {} lease {} deadline={deadline}ms", keyspace.0, id.0)?;
                }
                let next = self.server.kv.next_lease_deadline();
                writeln!(out, "next={next:?}")?;
            }
            "alarms" => self.server.kv.alarms().for_each(|alarm| {
                out.push_str(&format!("{:?} of member {}\n", alarm.kind, alarm.member));
            }),
            _ => {
                let count = |kind: u8| {
                    let (start, end) = (&[kind][..], &[kind + 1][..]);
                    let bounds = (Bound::Included(start), Bound::Excluded(end));
                    view.snapshot.scan(bounds, Direction::Forward).count()
                };
                let (heads, older, changes) = (count(b'h'), count(b'v'), count(b'r'));
                writeln!(out, "heads={heads} older={older} changes={changes}")?;
            }
        }
        Ok(out)
    }

    fn restart(&mut self, args: &mut Words) -> Outcome {
        if args.next().as_deref() != Some("lost") {
            self.server.checkpoint(true);
        }
        let before = self.server.engine.durable_applied();
        self.server.crash();
        self.server.invariants();
        let replayed = self.server.kv.applied() - before;
        Ok(format!("replayed {replayed} entries\n"))
    }

    fn watching(&mut self, name: &str, args: &mut Words) -> Outcome {
        let mut out = String::new();
        if name == "limits" {
            return self.limits(args);
        }
        if name == "tick" {
            self.feed(HubInput::NotifyTick, &mut out);
            return Ok(out);
        }
        let stream = StreamId(number(args)? as u64);
        let input = match name {
            "open" => {
                let (kv, keyspace) = (&self.server.kv, self.keyspace);
                let revision = kv.revision(keyspace);
                let compact_revision = kv.compact_revision(keyspace);
                let state = HubInput::State { keyspace, revision, compact_revision };
                self.feed(state, &mut out);
                HubInput::OpenStream { stream, keyspace }
            }
            "close" => HubInput::CloseStream { stream },
            "progress" => HubInput::Progress { stream },
            "cancel" => HubInput::Cancel { stream, watch_id: WatchId(number(args)?) },
            "watch" => HubInput::Create { stream, request: parse::watch(args)? },
            "stall" => {
                self.stalled.insert(stream, 0);
                return Ok(out);
            }
            "drain" => {
                HubInput::Drained { stream, bytes: self.stalled.remove(&stream).unwrap_or(0) }
            }
            _ => return Err(format!("unknown command {name}").into()),
        };
        self.feed(input, &mut out);
        Ok(out)
    }

    fn limits(&mut self, args: &mut Words) -> Outcome {
        let mut limits = HubLimits::default();
        for (name, value) in args.all_named() {
            let value = value.parse()?;
            match &name[..] {
                "ring" => limits.ring_bytes = value,
                "stream" => limits.stream_bytes = value,
                "response" => limits.response_bytes = value,
                "fragment" => limits.fragment_bytes = value,
                _ => return Err(format!("unknown limit {name}").into()),
            }
        }
        self.hub = Hub::new(limits);
        Ok(String::new())
    }

    /// Steps the hub, does what it asks for, and prints what clients get.
    fn feed(&mut self, input: HubInput, text: &mut String) {
        self.hub.step(input, &mut self.out);
        self.hub.invariants();
        for output in std::mem::take(&mut self.out) {
            match output {
                HubOutput::Response { stream, reply, bytes } => {
                    text.push_str(&print::print_watch_reply(stream, &reply));
                    match self.stalled.get_mut(&stream) {
                        Some(undrained) => *undrained += bytes,
                        None => self.feed(HubInput::Drained { stream, bytes }, text),
                    }
                }
                HubOutput::ReadHistory { read, keyspace, range, from, max_bytes } => {
                    text.push_str(&format!("  (reads history from {})\n", from.0));
                    let view = self.server.view(keyspace);
                    let found = match view.history(&range, from, max_bytes) {
                        Ok(history) => HistoryFound::Found(history),
                        Err(_) => HistoryFound::Compacted(view.compact_revision),
                    };
                    self.feed(HubInput::History { read, found }, text);
                }
            }
        }
        if self.hub.has_work() {
            self.feed(HubInput::Work, text);
        }
    }
}
