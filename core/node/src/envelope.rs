//! What a command entry's bytes are for: the first byte says.
//!
//! | byte | content |
//! |---|---|
//! | below 0x80 | a command of the key-value machine: the byte is the version of `kv`'s encoding |
//! | 0x81 | a request to change the membership, for whoever leads when it is applied |
//! | 0x82 | the leader's refusal of such a request, for the node that asked |
//!
//! A request for a change cannot go straight into a membership entry, because only the leader knows the
//! newest membership; sending it through the log lets any node take it, once, in order.

use bytes::{BufMut, Bytes};
use quorate_consensus::{NodeId, Origin};
use quorate_kv::{Command, KeyspaceId};

use crate::limits::{MAX_MEMBER_TEXT, MAX_MEMBER_URLS};
use crate::wire::{Reader, put_text};
use crate::{MemberChange, MemberRefusal};

const OWN: u8 = 0x80;
const MEMBER_REQUEST: u8 = OWN | 1;
const MEMBER_REFUSED: u8 = OWN | 2;

/// The content of a command entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Envelope {
    /// A command of the key-value machine, still encoded.
    Kv(Bytes),
    /// A request to change the membership.
    MemberRequest(MemberChange),
    /// Such a request was refused.
    MemberRefused(Origin, MemberRefusal),
}

/// Encodes a command of the key-value machine.
pub(crate) fn encode_kv(keyspace: KeyspaceId, command: &Command) -> Bytes {
    let data = quorate_kv::codec::encode(keyspace, command);
    assert!(data[0] < OWN, "the encoding's version stays clear of the node's own kinds");
    data
}

/// Encodes a request to change the membership.
pub(crate) fn encode_member_request(change: &MemberChange) -> Bytes {
    let mut buf = vec![MEMBER_REQUEST];
    let (tag, flag) = match change {
        MemberChange::Add { learner, .. } => (1, *learner),
        MemberChange::Remove { .. } => (2, false),
        MemberChange::Update { .. } => (3, false),
        MemberChange::Promote { .. } => (4, false),
        MemberChange::Publish { .. } => (5, false),
    };
    buf.put_u8(tag);
    buf.put_u8(u8::from(flag));
    buf.put_u64_le(change.id().0);
    let (name, urls): (&str, &[String]) = match change {
        MemberChange::Add { peer_urls, .. } | MemberChange::Update { peer_urls, .. } => {
            ("", peer_urls)
        }
        MemberChange::Publish { name, client_urls, .. } => (name, client_urls),
        MemberChange::Remove { .. } | MemberChange::Promote { .. } => ("", &[]),
    };
    put_text(&mut buf, name);
    buf.put_u16_le(urls.len().min(MAX_MEMBER_URLS) as u16);
    urls.iter().take(MAX_MEMBER_URLS).for_each(|url| put_text(&mut buf, url));
    Bytes::from(buf)
}

/// Encodes the refusal of a request to change the membership.
pub(crate) fn encode_member_refused(origin: Origin, refusal: MemberRefusal) -> Bytes {
    let mut buf = vec![MEMBER_REFUSED];
    for number in [origin.node.0, origin.boot, origin.seq] {
        buf.put_u64_le(number);
    }
    let at = REFUSALS.iter().position(|other| *other == refusal);
    buf.put_u8(at.expect("every refusal is in the table") as u8);
    Bytes::from(buf)
}

/// In the order of their numbers in the log: append only.
const REFUSALS: [MemberRefusal; 9] = [
    MemberRefusal::NotFound,
    MemberRefusal::IdExists,
    MemberRefusal::PeerUrlExists,
    MemberRefusal::NotEnoughStarted,
    MemberRefusal::NotLearner,
    MemberRefusal::LearnerNotReady,
    MemberRefusal::TooManyLearners,
    MemberRefusal::Unhealthy,
    MemberRefusal::ChangePending,
];

/// Decodes; `None` means that the log holds what this version cannot know.
pub(crate) fn decode(data: &Bytes) -> Option<Envelope> {
    let mut reader = Reader::new(data);
    match reader.u8()? {
        kind if kind < OWN => Some(Envelope::Kv(data.clone())),
        MEMBER_REQUEST => decode_member_request(&mut reader).map(Envelope::MemberRequest),
        MEMBER_REFUSED => {
            let node = NodeId(reader.u64()?);
            let origin = Origin { node, boot: reader.u64()?, seq: reader.u64()? };
            let refusal = *REFUSALS.get(usize::from(reader.u8()?))?;
            Some(Envelope::MemberRefused(origin, refusal))
        }
        _ => None,
    }
}

fn decode_member_request(reader: &mut Reader<'_>) -> Option<MemberChange> {
    let (tag, flag) = (reader.u8()?, reader.u8()?);
    let id = NodeId(reader.u64()?);
    let name = reader.text(MAX_MEMBER_TEXT)?;
    let count = usize::from(reader.u16()?);
    let urls: Vec<String> = (0..count.min(MAX_MEMBER_URLS))
        .map(|_| reader.text(MAX_MEMBER_TEXT))
        .collect::<Option<_>>()?;
    reader.end()?;
    Some(match tag {
        1 => MemberChange::Add { id, peer_urls: urls, learner: flag != 0 },
        2 => MemberChange::Remove { id },
        3 => MemberChange::Update { id, peer_urls: urls },
        4 => MemberChange::Promote { id },
        5 => MemberChange::Publish { id, name, client_urls: urls },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_changes_round_trip() {
        let urls = vec!["http://a:1".to_owned(), "http://b:2".to_owned()];
        let id = NodeId(u64::MAX);
        let changes = [
            MemberChange::Add { id, peer_urls: urls.clone(), learner: true },
            MemberChange::Remove { id },
            MemberChange::Update { id, peer_urls: urls.clone() },
            MemberChange::Promote { id },
            MemberChange::Publish { id, name: "n".into(), client_urls: urls },
        ];
        for change in changes {
            let bytes = encode_member_request(&change);
            assert_eq!(decode(&bytes), Some(Envelope::MemberRequest(change)));
            for len in 0..bytes.len() {
                assert_eq!(decode(&bytes.slice(..len)), None, "cut at {len}");
            }
        }
    }

    #[test]
    fn refusals_round_trip() {
        let origin = Origin { node: NodeId(1), boot: 2, seq: 3 };
        for refusal in REFUSALS {
            let bytes = encode_member_refused(origin, refusal);
            assert_eq!(decode(&bytes), Some(Envelope::MemberRefused(origin, refusal)));
        }
    }
}
