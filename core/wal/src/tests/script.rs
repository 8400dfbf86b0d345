//! The interpreter of `testscripts/`: one file is one scenario.
//!
//! | command | what it does |
//! |---|---|
//! | `create [segment=BYTES] [group=BYTES]` | begins a log |
//! | `append 5@2 6@2/9000 hs=TERM/VOTE/COMMIT release=INDEX@TERM install=INDEX@TERM` | one batch, in this order; an entry is `INDEX@TERM`, with a payload of `/LEN` bytes |
//! | `fill until=INDEX len=LEN [term=TERM]` | batches of one entry each |
//! | `recover [group=BYTES]` | drops the writer and starts again |
//! | `zero SEGMENT OFFSET LEN`, `flip SEGMENT OFFSET` | damage |
//! | `keep`, `bring-back SEGMENT` | remembers all files; restores one of them |
//! | `remove SEGMENT` | deletes a file |
//! | `read FROM UNTIL [bytes=N]` | reads entries back |
//! | `files`, `full yes`, `retry` | what is there; no space; ask again |

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use bytes::Bytes;
use goldenscript::{Argument, Command, Context, Runner};
use quorate_consensus::{
    Entry, GroupId, GroupTime, HardState, LogIndex, LogStart, Membership, NodeId, Origin, Payload,
    Seq, Term,
};

use super::disk::MemDisk;
use crate::{
    ClusterId, Config, Disk as _, Generation, Identity, Input, Output, Record, SegmentId, Writer,
    create, inspect, perform, read_entries, recover,
};

type Outcome = Result<String, Box<dyn Error>>;

const GROUP: GroupId = GroupId(1);
const IDENTITY: Identity = Identity { cluster: ClusterId(0xc), node: NodeId(1) };

struct Script {
    disk: MemDisk,
    kept: BTreeMap<SegmentId, Vec<u8>>,
    writer: Option<Writer>,
    config: Config,
    boot: u64,
    seq: Seq,
    generation: u64,
    last: u64,
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Outcome {
        match command.name.as_str() {
            "create" => self.create(command),
            "append" => self.append(command),
            "fill" => self.fill(command),
            "recover" => self.recover(command),
            "zero" => self.zero(command),
            "flip" => self.flip(command),
            "keep" => {
                self.kept = self.disk.files.borrow().clone();
                Ok(String::new())
            }
            "bring-back" => {
                let segment = segment(command, 0)?;
                let kept = self.kept.get(&segment).ok_or("not kept")?.clone();
                self.disk.files.borrow_mut().insert(segment, kept);
                Ok(String::new())
            }
            "remove" => {
                self.disk.delete(segment(command, 0)?)?;
                Ok(String::new())
            }
            "read" => self.read(command),
            "files" => self.files(),
            "full" => {
                *self.disk.full.borrow_mut() = positional(command, 0)? == "yes";
                Ok(String::new())
            }
            "retry" => self.drive(Input::Retry),
            other => Err(format!("no command {other}").into()),
        }
    }
}

fn positional(command: &Command, at: usize) -> Result<&str, Box<dyn Error>> {
    let mut plain = command.args.iter().filter_map(|argument| match argument {
        Argument::Positional(value) => Some(value.as_str()),
        _ => None,
    });
    Ok(plain.nth(at).ok_or("an argument is missing")?)
}

fn keyed<T: std::str::FromStr>(command: &Command, key: &str) -> Option<T> {
    command.consume_args().take_key(key)?.parse().ok()
}

fn number(text: &str) -> Result<u64, Box<dyn Error>> {
    text.parse().map_err(|_| format!("{text} is no number").into())
}

fn segment(command: &Command, at: usize) -> Result<SegmentId, Box<dyn Error>> {
    Ok(SegmentId(number(positional(command, at)?)?))
}

/// `INDEX@TERM[/LEN]`
fn position(text: &str) -> Result<(u64, u64, usize), Box<dyn Error>> {
    let (text, len) = text.split_once('/').unwrap_or((text, "3"));
    let (index, term) = text.split_once('@').ok_or("INDEX@TERM")?;
    Ok((number(index)?, number(term)?, number(len)? as usize))
}

fn entry(text: &str) -> Result<Record, Box<dyn Error>> {
    let (index, term, len) = position(text)?;
    let data = Bytes::from(vec![b'x'; len]);
    let payload = Payload::Command { origin: Origin::default(), data };
    let (term, index, time) = (Term(term), LogIndex(index), GroupTime(index));
    Ok(Record::Entry { group: GROUP, entry: Entry { term, index, time, payload } })
}

fn hard_state(text: &str) -> Result<Record, Box<dyn Error>> {
    let numbers = text.split('/').map(number).collect::<Result<Vec<_>, _>>()?;
    let [term, vote, commit] = numbers[..] else { return Err("TERM/VOTE/COMMIT".into()) };
    let vote = (vote > 0).then_some(NodeId(vote));
    let hard_state = HardState { term: Term(term), vote, commit: LogIndex(commit) };
    Ok(Record::HardState { group: GROUP, hard_state })
}

impl Script {
    fn new() -> Self {
        Self {
            disk: MemDisk::default(),
            kept: BTreeMap::new(),
            writer: None,
            config: Config { segment_bytes: 256 << 10, group_bytes: 1 << 20, index_stride: 4096 },
            boot: 1,
            seq: Seq(0),
            generation: 0,
            last: 0,
        }
    }

    fn create(&mut self, command: &Command) -> Outcome {
        self.config.segment_bytes = keyed(command, "segment").unwrap_or(self.config.segment_bytes);
        self.config.group_bytes = keyed(command, "group").unwrap_or(self.config.group_bytes);
        self.writer = Some(create(&self.disk, IDENTITY, self.boot, self.config)?);
        self.files()
    }

    fn record(&mut self, argument: &Argument) -> Result<Record, Box<dyn Error>> {
        let membership = Membership::default();
        let start = |text| {
            let (index, term, _) = position(text)?;
            let (index, time) = (LogIndex(index), GroupTime(index));
            Ok::<_, Box<dyn Error>>(LogStart { index, term: Term(term), time })
        };
        let (key, text) = match argument {
            Argument::Positional(value) => ("entry", value),
            Argument::KeyValue(key, value) => (key.as_str(), value),
            _ => return Err("no such argument".into()),
        };
        match key {
            "entry" => {
                let record = entry(text)?;
                self.last = position(text)?.0;
                Ok(record)
            }
            "hs" => hard_state(text),
            "release" => {
                let (start, generation) = (start(text)?, Generation(self.generation));
                let applied = start.index;
                Ok(Record::Release { group: GROUP, start, membership, generation, applied })
            }
            "install" => {
                self.generation += 1;
                let (start, generation) = (start(text)?, Generation(self.generation));
                self.last = start.index.0;
                Ok(Record::Installed { group: GROUP, start, membership, generation })
            }
            other => Err(format!("no record {other}").into()),
        }
    }

    fn append(&mut self, command: &Command) -> Outcome {
        let records = command.args.iter().map(|argument| self.record(argument));
        let records = records.collect::<Result<_, _>>()?;
        self.seq = Seq(self.seq.0 + 1);
        self.drive(Input::Append { seq: self.seq, records })
    }

    fn fill(&mut self, command: &Command) -> Outcome {
        let len = keyed::<usize>(command, "len").unwrap_or(3);
        let term = keyed::<u64>(command, "term").unwrap_or(1);
        let until = keyed::<u64>(command, "until").ok_or("until=")?;
        let mut said = String::new();
        for index in self.last + 1..=until {
            self.seq = Seq(self.seq.0 + 1);
            let records = vec![entry(&format!("{index}@{term}/{len}"))?];
            let lines = self.drive(Input::Append { seq: self.seq, records })?;
            let files =
                lines.lines().filter(|line| !line.starts_with("Wri") && !line.starts_with("Per"));
            files.for_each(|line| writeln!(said, "{line}").unwrap());
        }
        self.last = until;
        Ok(said)
    }

    fn drive(&mut self, input: Input) -> Outcome {
        let writer = self.writer.as_mut().ok_or("no writer")?;
        let mut said = String::new();
        let mut outputs = Vec::new();
        writer.step(input, &mut outputs)?;
        while !outputs.is_empty() {
            for output in std::mem::take(&mut outputs) {
                describe(&output, &mut said);
                if let Some(answer) = perform(&self.disk, &output) {
                    writer.step(answer, &mut outputs)?;
                }
                writer.invariants();
            }
        }
        Ok(said)
    }

    fn recover(&mut self, command: &Command) -> Outcome {
        self.config.group_bytes = keyed(command, "group").unwrap_or(self.config.group_bytes);
        self.writer = None;
        self.boot += 1;
        self.seq = Seq(0);
        let inspected = inspect(&self.disk)?;
        let recovered = recover(&self.disk, Some(IDENTITY), self.boot, self.config);
        assert_eq!(inspected.problem.as_ref(), recovered.as_ref().err(), "inspect says the same");
        let recovery = recovered?;
        let mut said = String::new();
        writeln!(said, "{} segments, {} sync groups", recovery.segments, recovery.sync_groups)?;
        if let Some(cut) = &recovery.cut {
            let (at, offset) = (cut.segment.0, cut.offset);
            writeln!(
                said,
                "cut: sync group {} at {at}:{offset}, {} kept, {} lost",
                cut.group, cut.kept, cut.lost
            )?;
        }
        assert_eq!(inspected.cut, recovery.cut, "inspect says the same");
        for (id, group) in &recovery.groups {
            let found = &group.recovered;
            let HardState { term, vote, commit } = found.hard_state;
            let vote = vote.map_or_else(|| "nobody".to_owned(), |vote| vote.to_string());
            writeln!(
                said,
                "group {id}: term {term}, vote {vote}, commit {commit}, start {}@{}, generation {}",
                found.start.index, found.start.term, group.generation.0
            )?;
            writeln!(said, "entries: {}", list(&found.entries))?;
            self.last = found.entries.last().map_or(found.start.index, |entry| entry.index).0;
        }
        self.writer = Some(recovery.writer);
        said.push_str(&self.files()?);
        Ok(said)
    }

    fn zero(&mut self, command: &Command) -> Outcome {
        let (offset, len) = (number(positional(command, 1)?)?, number(positional(command, 2)?)?);
        self.disk.patch(segment(command, 0)?, offset as usize, &vec![0; len as usize]);
        Ok(String::new())
    }

    fn flip(&mut self, command: &Command) -> Outcome {
        let (segment, offset) = (segment(command, 0)?, number(positional(command, 1)?)?);
        let byte = self.disk.files.borrow()[&segment][offset as usize];
        self.disk.patch(segment, offset as usize, &[byte ^ 4]);
        Ok(String::new())
    }

    fn read(&mut self, command: &Command) -> Outcome {
        let writer = self.writer.as_ref().ok_or("no writer")?;
        let from = LogIndex(number(positional(command, 0)?)?);
        let until = LogIndex(number(positional(command, 1)?)?);
        let Some(plan) = writer.plan_read(GROUP, from, until) else {
            return Ok("gone\n".to_owned());
        };
        let bytes = keyed(command, "bytes").unwrap_or(usize::MAX);
        Ok(format!("{}\n", list(&read_entries(&self.disk, &plan, bytes)?)))
    }

    /// Every segment: its sync groups, where they end, what it follows.
    fn files(&self) -> Outcome {
        let mut said = String::new();
        for report in inspect(&self.disk)?.segments {
            write!(said, "segment {}:", report.segment.0)?;
            match report.sync_groups {
                Some((first, last)) => {
                    write!(
                        said,
                        " sync groups {first}..{last}, {} records, end {}",
                        report.records, report.end
                    )?;
                }
                None => write!(said, " empty")?,
            }
            if let Some(from) = report.predecessor {
                write!(
                    said,
                    ", after {} with {} at {}",
                    from.segment.0, from.last_group, from.end
                )?;
            }
            said.push('\n');
        }
        Ok(said)
    }
}

fn list(entries: &[Entry]) -> String {
    let all = entries.iter().map(|e| format!("{}@{}", e.index, e.term)).collect::<Vec<_>>();
    match &all[..] {
        [] => "none".to_owned(),
        [first, .., last] if all.len() > 12 => format!("{first} .. {last}, {} in all", all.len()),
        _ => all.join(" "),
    }
}

fn describe(output: &Output, said: &mut String) {
    let line = match output {
        Output::Write { segment, offset, bytes } => {
            format!("Write {}:{offset} +{}", segment.0, bytes.len())
        }
        Output::Sync { .. } => return,
        Output::Create { segment, .. } => format!("Create {}", segment.0),
        Output::Delete { segment } => format!("Delete {}", segment.0),
        Output::Persisted { seq } => format!("Persisted {seq}"),
        Output::NoSpace => "NoSpace".to_owned(),
        Output::SpaceFound => "SpaceFound".to_owned(),
    };
    writeln!(said, "{line}").unwrap();
}

macro_rules! scripts {
    ($($name:ident),+ $(,)?) => {
        $(#[test]
        fn $name() {
            let path = concat!("testscripts/", stringify!($name));
            goldenscript::run(&mut Script::new(), path).unwrap();
        })+

        #[test]
        fn every_script_is_run() {
            let named = [$(stringify!($name)),+];
            for file in std::fs::read_dir("testscripts").unwrap() {
                let name = file.unwrap().file_name().into_string().unwrap();
                assert!(named.contains(&name.as_str()), "{name} is not run");
            }
        }
    };
}

scripts![
    restart_keeps_everything,
    torn_last_group_is_cut_at_its_first_bad_record,
    torn_header_of_the_last_group,
    damage_below_the_last_group_is_refused,
    conflicting_entries_truncate,
    rotation_and_release,
    crash_during_recovery,
    installed_snapshot_replaces_the_log,
    missing_segment_is_refused,
    deleted_segment_that_came_back,
    full_disk_and_retry,
    wrong_records_halt,
    reading_back,
];
