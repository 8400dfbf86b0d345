//! Bytes to values, for any bytes; the tables stand at the head of the parent module.

use bytes::Bytes;

use super::FORMAT_VERSION;
use crate::limits::{MAX_CONTEXT_BYTES, MAX_MEMBERS, MAX_REMOVED};
use crate::{
    Body, Entry, GroupId, GroupTime, HardState, LogIndex, Member, Membership, Message, NodeId,
    Origin, Payload, Refusal, Term,
};

/// Why bytes are not a value. Never worth a retry: the bytes stay what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The value goes on where the bytes end.
    #[error("truncated")]
    Truncated,
    /// Bytes remain after the value.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// Written by a version that this one does not know.
    #[error("format version {0} is not known")]
    Version(u8),
    /// A number, kind or flag outside of what the format allows.
    #[error("invalid {0}")]
    Invalid(&'static str),
}

type Result<T> = std::result::Result<T, DecodeError>;

/// Decodes an entry that fills `input`.
///
/// # Errors
/// [`DecodeError`] for anything that `encode_entry` does not produce.
pub fn decode_entry(input: Bytes) -> Result<Entry> {
    whole(input, Reader::entry)
}

/// Decodes a membership that fills `input`. Order, uniqueness and bounds are checked.
///
/// # Errors
/// [`DecodeError`] for anything that is not a membership.
pub fn decode_membership(input: Bytes) -> Result<Membership> {
    whole(input, Reader::membership)
}

/// Decodes a hard state that fills `input`.
///
/// # Errors
/// [`DecodeError`] for anything that `encode_hard_state` does not produce.
pub fn decode_hard_state(input: Bytes) -> Result<HardState> {
    whole(input, Reader::hard_state)
}

/// Decodes a message that fills `input`.
///
/// # Errors
/// [`DecodeError`] for anything that `encode_message` does not produce.
pub fn decode_message(input: Bytes) -> Result<Message> {
    whole(input, Reader::message)
}

fn whole<T>(input: Bytes, read: impl FnOnce(&mut Reader) -> Result<T>) -> Result<T> {
    let mut reader = Reader { rest: input };
    let value = read(&mut reader)?;
    match reader.rest.len() {
        0 => Ok(value),
        extra => Err(DecodeError::Trailing(extra)),
    }
}

/// What is left of the input.
struct Reader {
    rest: Bytes,
}

impl Reader {
    fn take(&mut self, count: usize) -> Result<Bytes> {
        if count > self.rest.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(self.rest.split_to(count))
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u64le(&mut self) -> Result<u64> {
        let mut raw = [0; 8];
        raw.copy_from_slice(&self.take(8)?);
        Ok(u64::from_le_bytes(raw))
    }

    fn bool(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid("flag")),
        }
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for (at, &byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if (at == 9 && byte > 1) || (at > 0 && byte == 0) {
                return Err(DecodeError::Invalid("number"));
            }
            value |= bits << (7 * at);
            if byte < 0x80 {
                self.rest = self.rest.slice(at + 1..);
                return Ok(value);
            }
        }
        if self.rest.len() >= 10 {
            Err(DecodeError::Invalid("number"))
        } else {
            Err(DecodeError::Truncated)
        }
    }

    fn bytes(&mut self) -> Result<Bytes> {
        let length = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
        self.take(length)
    }

    /// Items of at least `smallest` bytes each, at most `most` of them.
    fn list<T>(
        &mut self,
        smallest: usize,
        most: usize,
        each: impl Fn(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
        if count > most {
            return Err(DecodeError::Invalid("count"));
        }
        if count > self.rest.len() / smallest {
            return Err(DecodeError::Truncated);
        }
        (0..count).map(|_| each(self)).collect()
    }

    fn version(&mut self) -> Result<()> {
        match self.u8()? {
            FORMAT_VERSION => Ok(()),
            other => Err(DecodeError::Version(other)),
        }
    }

    fn index(&mut self) -> Result<LogIndex> {
        self.varint().map(LogIndex)
    }

    fn term(&mut self) -> Result<Term> {
        self.varint().map(Term)
    }

    fn origin(&mut self) -> Result<Origin> {
        let node = NodeId(self.varint()?);
        Ok(Origin { node, boot: self.u64le()?, seq: self.varint()? })
    }

    fn entry(&mut self) -> Result<Entry> {
        self.version()?;
        let kind = self.u8()?;
        let (term, index, time) = (self.term()?, self.index()?, GroupTime(self.varint()?));
        let payload = match kind {
            0 => Payload::Empty,
            1 => Payload::Command { origin: self.origin()?, data: self.bytes()? },
            2 => Payload::Membership { origin: self.origin()?, membership: self.membership()? },
            _ => return Err(DecodeError::Invalid("kind of entry")),
        };
        // The position after the last possible one must be a number too.
        if index.0 == 0 || index.0 == u64::MAX {
            return Err(DecodeError::Invalid("index of entry"));
        }
        Ok(Entry { term, index, time, payload })
    }

    fn member(&mut self) -> Result<Member> {
        let (id, learner, context) = (NodeId(self.varint()?), self.bool()?, self.bytes()?);
        if id.0 == 0 || context.len() > MAX_CONTEXT_BYTES {
            return Err(DecodeError::Invalid("member"));
        }
        Ok(Member { id, learner, context })
    }

    fn membership(&mut self) -> Result<Membership> {
        self.version()?;
        let members = self.list(3, MAX_MEMBERS, Self::member)?;
        let removed = self.list(1, MAX_REMOVED, |reader| reader.varint().map(NodeId))?;
        let sorted = members.windows(2).all(|pair| pair[0].id < pair[1].id)
            && removed.windows(2).all(|pair| pair[0] < pair[1]);
        if !sorted {
            return Err(DecodeError::Invalid("order of members"));
        }
        Ok(Membership { members, removed })
    }

    fn hard_state(&mut self) -> Result<HardState> {
        self.version()?;
        let (term, vote, commit) = (self.term()?, self.varint()?, self.index()?);
        Ok(HardState { term, vote: (vote != 0).then_some(NodeId(vote)), commit })
    }

    fn message(&mut self) -> Result<Message> {
        self.version()?;
        let kind = self.u8()?;
        let group = u32::try_from(self.varint()?).map_err(|_| DecodeError::Invalid("group"))?;
        let term = self.term()?;
        Ok(Message { group: GroupId(group), term, body: self.body(kind)? })
    }

    fn body(&mut self, kind: u8) -> Result<Body> {
        Ok(match kind {
            1 => Body::PreVote { last_index: self.index()?, last_term: self.term()? },
            2 => Body::PreVoteReply { asked: self.term()?, granted: self.bool()? },
            3 => {
                let (last_index, last_term) = (self.index()?, self.term()?);
                Body::Vote { last_index, last_term, transfer: self.bool()? }
            }
            4 => Body::VoteReply { granted: self.bool()? },
            5 => self.append()?,
            6 => Body::Accepted { last: self.index()? },
            7 => {
                let (prev_index, hint_index) = (self.index()?, self.index()?);
                Body::Rejected { prev_index, hint_index, hint_term: self.term()? }
            }
            8 => Body::Heartbeat { commit: self.index()?, round: self.varint()? },
            9 => Body::HeartbeatReply { round: self.varint()? },
            10 => Body::Commit { commit: self.index()? },
            11 => Body::TimeoutNow,
            12 => {
                let proposal = |reader: &mut Self| Ok((reader.origin()?, reader.bytes()?));
                Body::Forward { proposals: self.list(11, usize::MAX, proposal)? }
            }
            13 => {
                let reason = reason(self.u8()?)?;
                Body::ForwardRefused { origins: self.list(10, usize::MAX, Self::origin)?, reason }
            }
            14 => Body::ReadRequest { context: self.u64le()? },
            15 => Body::ReadReply { context: self.u64le()?, result: self.read_result()? },
            16 => Body::NewerTerm,
            _ => return Err(DecodeError::Invalid("kind of message")),
        })
    }

    fn append(&mut self) -> Result<Body> {
        let (prev_index, prev_term, commit) = (self.index()?, self.term()?, self.index()?);
        let entries = self.list(5, usize::MAX, Self::entry)?;
        if prev_index.0.checked_add(entries.len() as u64 + 1).is_none() {
            return Err(DecodeError::Invalid("index"));
        }
        Ok(Body::Append { prev_index, prev_term, commit, entries })
    }

    fn read_result(&mut self) -> Result<std::result::Result<LogIndex, Refusal>> {
        match self.u8()? {
            0 => Ok(Ok(self.index()?)),
            code => Ok(Err(reason(code)?)),
        }
    }
}

fn reason(code: u8) -> Result<Refusal> {
    Ok(match code {
        1 => Refusal::NoLeader,
        2 => Refusal::LeaderChanged,
        3 => Refusal::Transferring,
        4 => Refusal::Overloaded,
        5 => Refusal::NotLeader,
        6 => Refusal::ChangePending,
        7 => Refusal::InvalidChange,
        _ => return Err(DecodeError::Invalid("reason")),
    })
}
