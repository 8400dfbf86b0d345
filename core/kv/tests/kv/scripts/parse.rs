//! From words to requests.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::iter::Peekable;

use goldenscript::Argument;

use super::*;

pub(super) type Parsed<T> = Result<T, Box<dyn Error>>;

/// The words of a command: positional ones and `name=value` ones.
#[derive(Default)]
pub(super) struct Words {
    rest: VecDeque<String>,
    named: BTreeMap<String, String>,
}

impl Words {
    pub(super) fn of_line(line: &Line) -> Self {
        let mut words = Self::default();
        for arg in &line.args {
            match arg {
                Argument::KeyValue(name, value) => {
                    words.named.insert(name.clone(), value.clone());
                }
                Argument::Positional(word) => words.rest.push_back(word.clone()),
                other => panic!("{other:?}"),
            }
        }
        words
    }

    fn of_words(all: &[&str]) -> Self {
        let mut words = Self::default();
        for word in all {
            match word.split_once('=') {
                Some((name, value)) => {
                    words.named.insert(name.into(), value.into());
                }
                None => words.rest.push_back((*word).into()),
            }
        }
        words
    }

    pub(super) fn next(&mut self) -> Option<String> {
        self.rest.pop_front()
    }

    /// The next word, unless it is a flag: all of those have an underscore, or stand here.
    fn next_key(&mut self) -> Option<String> {
        let is_flag = |word: &String| word.contains('_') || word == "fragment" || word == "notify";
        if self.rest.front().is_some_and(is_flag) { None } else { self.next() }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.named.remove(name)
    }

    pub(super) fn all_named(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.named)
    }

    /// That nothing is left.
    pub(super) fn end(&self) -> Parsed<()> {
        if self.rest.is_empty() && self.named.is_empty() {
            return Ok(());
        }
        Err(format!("unknown words {:?} {:?}", self.rest, self.named).into())
    }
}

pub(super) fn number(args: &mut Words) -> Parsed<i64> {
    Ok(args.next().ok_or("a number is missing")?.parse()?)
}

/// `NUL` is a zero byte, `none` nothing, `x*N` N times x.
pub(super) fn key(word: &str) -> Bytes {
    if let Some((byte, times)) = word.split_once('*') {
        return byte.repeat(times.parse().unwrap()).into();
    }
    match word {
        "none" => Bytes::new(),
        word => word.replace("NUL", "\0").into(),
    }
}

pub(super) fn key_range(args: &mut Words) -> Parsed<KeyRange> {
    let start = key(&args.next().ok_or("a key is missing")?);
    let range_end = args.next_key().map(|end| key(&end)).unwrap_or_default();
    Ok(KeyRange { key: start, range_end })
}

/// Whether one of the words that are left is this one; takes it.
fn has(args: &mut Words, flag: &str) -> bool {
    let before = args.rest.len();
    args.rest.retain(|other| other != flag);
    args.rest.len() != before
}

fn keyed(args: &mut Words, name: &str) -> Parsed<i64> {
    Ok(args.take(name).map_or(Ok(0), |value| value.parse())?)
}

pub(super) fn put(args: &mut Words) -> Parsed<PutRequest> {
    let lease = LeaseId(keyed(args, "lease")?);
    let name = key(&args.next().ok_or("a key is missing")?);
    let value = args.next_key().map(|value| key(&value)).unwrap_or_default();
    Ok(PutRequest {
        key: name,
        value,
        lease,
        prev_kv: has(args, "prev_kv"),
        ignore_value: has(args, "ignore_value"),
        ignore_lease: has(args, "ignore_lease"),
    })
}

pub(super) fn delete(args: &mut Words) -> Parsed<DeleteRequest> {
    let range = key_range(args)?;
    Ok(DeleteRequest { range, prev_kv: has(args, "prev_kv") })
}

pub(super) fn range(args: &mut Words) -> Parsed<RangeRequest> {
    let order = match args.take("order").as_deref() {
        None => SortOrder::None,
        Some("ascend") => SortOrder::Ascend,
        Some("descend") => SortOrder::Descend,
        Some(other) => return Err(format!("order {other}").into()),
    };
    let target = match args.take("target").as_deref() {
        None | Some("key") => SortTarget::Key,
        Some("version") => SortTarget::Version,
        Some("create") => SortTarget::Create,
        Some("mod") => SortTarget::Mod,
        Some("value") => SortTarget::Value,
        Some(other) => return Err(format!("target {other}").into()),
    };
    let filter = RevisionFilter {
        min_mod: keyed(args, "min_mod")?,
        max_mod: keyed(args, "max_mod")?,
        min_create: keyed(args, "min_create")?,
        max_create: keyed(args, "max_create")?,
    };
    let (limit, revision) = (keyed(args, "limit")?, keyed(args, "rev")?);
    let range = key_range(args)?;
    let (keys_only, count_only) = (has(args, "keys_only"), has(args, "count_only"));
    Ok(RangeRequest { range, limit, revision, order, target, keys_only, count_only, filter })
}

pub(super) fn watch(args: &mut Words) -> Parsed<WatchCreate> {
    let (watch_id, start_revision) = (WatchId(keyed(args, "id")?), keyed(args, "start")?);
    let range = key_range(args)?;
    Ok(WatchCreate {
        watch_id,
        range,
        start_revision,
        prev_kv: has(args, "prev_kv"),
        no_put: has(args, "no_put"),
        no_delete: has(args, "no_delete"),
        fragment: has(args, "fragment"),
        progress_notify: has(args, "notify"),
    })
}

pub(super) fn alarm(args: &mut Words) -> Parsed<Alarm> {
    let kind = match args.next().as_deref() {
        Some("nospace") => AlarmKind::NoSpace,
        Some("corrupt") => AlarmKind::Corrupt,
        other => return Err(format!("alarm {other:?}").into()),
    };
    Ok(Alarm { member: number(args)? as u64, kind })
}

/// A transaction in its own little language; see the module above.
pub(super) fn txn(text: &str) -> Parsed<TxnRequest> {
    let mut words = text.split_whitespace().peekable();
    let txn = take_txn(&mut words)?;
    match words.next() {
        None => Ok(txn),
        Some(word) => Err(format!("unexpected {word}").into()),
    }
}

fn take_txn<'t>(words: &mut Peekable<impl Iterator<Item = &'t str>>) -> Parsed<TxnRequest> {
    let mut txn = TxnRequest::default();
    if words.next_if_eq(&"if").is_some() {
        txn.compare.push(take_compare(words)?);
        while words.next_if_eq(&"and").is_some() {
            txn.compare.push(take_compare(words)?);
        }
    }
    if words.next_if_eq(&"then").is_some() {
        txn.success = take_ops(words)?;
    }
    if words.next_if_eq(&"else").is_some() {
        txn.failure = take_ops(words)?;
    }
    Ok(txn)
}

fn take_ops<'t>(words: &mut Peekable<impl Iterator<Item = &'t str>>) -> Parsed<Vec<Op>> {
    let mut ops = Vec::new();
    loop {
        ops.extend(take_op(words)?);
        if words.next_if_eq(&";").is_none() {
            return Ok(ops);
        }
    }
}

/// One operation; `128*get k` is as many of them, with a number behind the key.
fn take_op<'t>(words: &mut Peekable<impl Iterator<Item = &'t str>>) -> Parsed<Vec<Op>> {
    if words.next_if_eq(&"(").is_some() {
        let txn = take_txn(words)?;
        words.next_if_eq(&")").ok_or("a parenthesis is missing")?;
        return Ok(vec![Op::Txn(txn)]);
    }
    let is_end = |word: &&str| [";", ")", "else"].contains(word);
    let mut own = Vec::new();
    while let Some(word) = words.next_if(|word| !is_end(word)) {
        own.push(word);
    }
    let (times, name) = match own.first().ok_or("an operation is missing")?.split_once('*') {
        Some((times, name)) => (Some(times.parse::<usize>()?), name),
        None => (None, own[0]),
    };
    (0..times.unwrap_or(1))
        .map(|n| {
            let suffix = times.map_or(String::new(), |_| n.to_string());
            op(name, &own[1..], &suffix)
        })
        .collect()
}

fn op(name: &str, words: &[&str], suffix: &str) -> Parsed<Op> {
    let mut args = Words::of_words(words);
    args.rest.front_mut().ok_or("a key is missing")?.push_str(suffix);
    let op = match name {
        "get" => Op::Range(range(&mut args)?),
        "put" => Op::Put(put(&mut args)?),
        "del" => Op::Delete(delete(&mut args)?),
        other => return Err(format!("unknown operation {other}").into()),
    };
    args.end()?;
    Ok(op)
}

fn take_compare<'t>(words: &mut impl Iterator<Item = &'t str>) -> Parsed<Compare> {
    let mut next = || words.next().ok_or("a condition is cut short");
    let (field, keys, relation, operand) = (next()?, next()?, next()?, next()?);
    let (start, end) = keys.split_once(',').unwrap_or((keys, "none"));
    let target = match field {
        "version" => CompareTarget::Version(operand.parse()?),
        "create" => CompareTarget::Create(operand.parse()?),
        "mod" => CompareTarget::Mod(operand.parse()?),
        "lease" => CompareTarget::Lease(operand.parse()?),
        "value" => CompareTarget::Value(key(operand)),
        other => return Err(format!("unknown field {other}").into()),
    };
    let result = match relation {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        "<" => CompareResult::Less,
        ">" => CompareResult::Greater,
        other => return Err(format!("unknown relation {other}").into()),
    };
    let range = KeyRange { key: key(start), range_end: key(end) };
    Ok(Compare { range, target, result })
}
