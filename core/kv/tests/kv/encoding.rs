//! The command codec: every command comes back as it was, every string of bytes is survived.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_kv::codec::{DecodeError, decode, encode};
use quorate_kv::limits::{MAX_KEY, MAX_TXN_DEPTH};
use quorate_kv::*;

use crate::generate;

proptest! {
    #[test]
    fn comes_back(keyspace in any::<u32>(), command in generate::any_command()) {
        let bytes = encode(KeyspaceId(keyspace), &command);
        prop_assert_eq!(decode(&bytes), Ok((KeyspaceId(keyspace), command)));
    }

    #[test]
    fn numbers_come_back(id in any::<i64>(), revision in any::<i64>(), deadline_ms in any::<u64>()) {
        for command in [
            Command::LeaseExpire { id: LeaseId(id), deadline_ms },
            Command::Compact { revision },
            Command::AlarmRaise(Alarm { member: deadline_ms, kind: AlarmKind::Corrupt }),
        ] {
            let bytes = encode(KeyspaceId::ETCD, &command);
            prop_assert_eq!(decode(&bytes), Ok((KeyspaceId::ETCD, command)));
        }
    }

    /// Whatever decodes is the encoding of what it decodes to: there is one encoding a command.
    #[test]
    fn garbage_is_refused(bytes in vec(any::<u8>(), 0..80)) {
        let mut bytes = bytes;
        if let Some(version) = bytes.first_mut() {
            *version = 1;
        }
        let bytes = Bytes::from(bytes);
        if let Ok((keyspace, command)) = decode(&bytes) {
            prop_assert_eq!(encode(keyspace, &command), bytes);
        }
    }

    #[test]
    fn damage_is_refused_or_is_another_command(
        command in generate::any_command(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encode(KeyspaceId::ETCD, &command).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let bytes = Bytes::from(bytes);
        if let Ok((keyspace, command)) = decode(&bytes) {
            prop_assert_eq!(encode(keyspace, &command), bytes);
        }
    }

    #[test]
    fn no_prefix_decodes(command in generate::any_command(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(KeyspaceId::ETCD, &command);
        let prefix = bytes.slice(..cut.index(bytes.len()));
        prop_assert!(decode(&prefix).is_err());
        let longer = Bytes::from([&bytes[..], b"\0"].concat());
        prop_assert_eq!(decode(&longer), Err(DecodeError::Trailing));
    }
}

#[test]
fn keys_and_values_are_not_copied() {
    let put = PutRequest { key: "key".into(), value: "value".into(), ..PutRequest::default() };
    let bytes = encode(KeyspaceId::ETCD, &Command::Put(put));
    let Ok((_, Command::Put(put))) = decode(&bytes) else { panic!("a put") };
    let inside = |part: &Bytes| bytes.as_ptr_range().contains(&part.as_ptr());
    assert!(inside(&put.key) && inside(&put.value));
}

/// An entry of an earlier release must decode for ever: these bytes are the format.
#[test]
fn the_format_stands() {
    let put = PutRequest {
        key: "k".into(),
        value: "v".into(),
        lease: LeaseId(-1),
        prev_kv: true,
        ..PutRequest::default()
    };
    let bytes = encode(KeyspaceId(200), &Command::Put(put));
    assert_eq!(&bytes[..], [1, 0xc8, 1, 1, 0b1001, 1, b'k', 1, b'v', 1]);
    let compact = encode(KeyspaceId::ETCD, &Command::Compact { revision: 300 });
    assert_eq!(&compact[..], [1, 0, 4, 0xd8, 4]);
    assert_eq!(decode(&Bytes::from_static(&[2, 0, 4, 0])), Err(DecodeError::Version(2)));
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let inner = |txn| TxnRequest { success: vec![Op::Txn(txn)], ..TxnRequest::default() };
        (1..depth).fold(TxnRequest::default(), |txn, _| inner(txn))
    };
    let deepest = Command::Txn(nested(MAX_TXN_DEPTH));
    let bytes = encode(KeyspaceId::ETCD, &deepest);
    assert_eq!(decode(&bytes), Ok((KeyspaceId::ETCD, deepest)));
    // One more level, by hand: a transaction of no conditions and one operation.
    let deeper = [&bytes[..2], &[3, 0, 1], &bytes[2..], &[0]].concat();
    assert_eq!(decode(&deeper.into()), Err(DecodeError::Depth));
    let limits = limits::TxnLimits { max_ops: 1000 };
    assert_eq!(check::check_txn(&nested(MAX_TXN_DEPTH), &limits), Ok(()));
    let refused = check::check_txn(&nested(MAX_TXN_DEPTH + 1), &limits);
    assert_eq!(refused, Err(Refusal::TooManyOps));
}

#[test]
fn keys_are_bounded() {
    let put = |length| PutRequest { key: vec![0; length].into(), ..PutRequest::default() };
    assert_eq!(check::check_put(&put(MAX_KEY)), Ok(()));
    assert_eq!(check::check_put(&put(MAX_KEY + 1)), Err(Refusal::TooLarge));
    let bytes = encode(KeyspaceId::ETCD, &Command::Put(put(MAX_KEY)));
    assert!(decode(&bytes).is_ok());
    // The same with a longer key, by hand: the length is the three bytes before the key.
    let longer = [&bytes[..4], &[0x80, 0x80, 2], &[0; MAX_KEY + 1], &[0]].concat();
    assert_eq!(decode(&longer.into()), Err(DecodeError::Key));
}
