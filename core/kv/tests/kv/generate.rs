//! Random requests over a handful of keys, leases and revisions, so that they meet.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use quorate_kv::*;

pub(crate) fn key() -> impl Strategy<Value = Bytes> {
    let keys: [&[u8]; 7] = [b"a", b"b", b"b\0", b"ba", b"c", b"\xff", b"\xff\xff"];
    select(keys.to_vec()).prop_map(Bytes::from_static)
}

pub(crate) fn range() -> impl Strategy<Value = KeyRange> {
    let end = prop_oneof![
        4 => Just(Bytes::new()),
        1 => Just(Bytes::from_static(b"\0")),
        2 => key(),
    ];
    let all = Just(KeyRange { key: "\0".into(), range_end: "\0".into() });
    prop_oneof![
        6 => (key(), end).prop_map(|(key, range_end)| KeyRange { key, range_end }),
        1 => all,
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    vec(0u8..3, 0..3).prop_map(Bytes::from)
}

fn lease() -> impl Strategy<Value = LeaseId> {
    prop_oneof![3 => Just(0i64), 1 => -2i64..4].prop_map(LeaseId)
}

fn some_lease() -> impl Strategy<Value = LeaseId> {
    (-2i64..4).prop_map(LeaseId)
}

fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0i64), 1 => -1i64..30]
}

pub(crate) fn put() -> impl Strategy<Value = PutRequest> {
    let flags =
        select(vec![(false, false), (false, false), (true, false), (false, true), (true, true)]);
    (key(), value(), lease(), any::<bool>(), flags).prop_map(
        |(key, value, lease, prev_kv, (ignore_value, ignore_lease))| PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease: if ignore_lease { LeaseId::NONE } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

pub(crate) fn delete() -> impl Strategy<Value = DeleteRequest> {
    (range(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRequest { range, prev_kv })
}

fn filter() -> impl Strategy<Value = RevisionFilter> {
    let bound = || prop_oneof![3 => Just(0i64), 1 => 0i64..20];
    let some = (bound(), bound(), bound(), bound()).prop_map(
        |(min_mod, max_mod, min_create, max_create)| RevisionFilter {
            min_mod,
            max_mod,
            min_create,
            max_create,
        },
    );
    prop_oneof![2 => Just(RevisionFilter::default()), 1 => some]
}

pub(crate) fn range_request() -> impl Strategy<Value = RangeRequest> {
    let order = select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let target = select(vec![
        SortTarget::Key,
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    let flags = (any::<bool>(), prop::bool::weighted(0.2));
    (range(), -1i64..5, revision(), order, target, flags, filter()).prop_map(
        |(range, limit, revision, order, target, (keys_only, count_only), filter)| RangeRequest {
            range,
            limit,
            revision,
            order,
            target,
            keys_only,
            count_only,
            filter,
        },
    )
}

pub(crate) fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        (0i64..3).prop_map(CompareTarget::Version),
        (0i64..15).prop_map(CompareTarget::Create),
        (0i64..15).prop_map(CompareTarget::Mod),
        (0i64..3).prop_map(CompareTarget::Lease),
        value().prop_map(CompareTarget::Value),
    ];
    let result = select(vec![
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
    ]);
    (range(), target, result).prop_map(|(range, target, result)| Compare { range, target, result })
}

/// Nested at most three deep.
pub(crate) fn txn() -> impl Strategy<Value = TxnRequest> {
    let op = prop_oneof![
        2 => range_request().prop_map(Op::Range),
        3 => put().prop_map(Op::Put),
        2 => delete().prop_map(Op::Delete),
    ];
    let txn_of = |op: BoxedStrategy<Op>| {
        (vec(compare(), 0..2), vec(op.clone(), 0..7), vec(op, 0..3))
            .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
    };
    let ops = op.prop_recursive(
        2,
        12,
        3,
        move |inner| prop_oneof![3 => inner.clone(), 1 => txn_of(inner.boxed()).prop_map(Op::Txn)],
    );
    txn_of(ops.boxed())
}

fn alarm() -> impl Strategy<Value = Alarm> {
    let kind = select(vec![AlarmKind::NoSpace, AlarmKind::Corrupt]);
    (0u64..3, kind).prop_map(|(member, kind)| Alarm { member, kind })
}

/// Any command.
pub(crate) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        8 => put().prop_map(Command::Put),
        4 => delete().prop_map(Command::Delete),
        6 => txn().prop_map(Command::Txn),
        2 => (-2i64..25).prop_map(|revision| Command::Compact { revision }),
        3 => (some_lease(), -1i64..4).prop_map(|(id, ttl_s)| Command::LeaseGrant { id, ttl_s }),
        1 => some_lease().prop_map(|id| Command::LeaseRevoke { id }),
        1 => vec(some_lease(), 0..4).prop_map(|ids| Command::LeaseRenew { ids }),
        1 => (some_lease(), 0u64..9000)
            .prop_map(|(id, deadline_ms)| Command::LeaseExpire { id, deadline_ms }),
    ]
}

/// Any command, alarms too.
pub(crate) fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        20 => command(),
        1 => alarm().prop_map(Command::AlarmRaise),
        2 => alarm().prop_map(Command::AlarmClear),
    ]
}
