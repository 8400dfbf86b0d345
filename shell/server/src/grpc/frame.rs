//! One message on the wire: a byte that says whether it is compressed, four for its length, itself.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes in front of each message.
pub(super) const PREFIX: usize = 5;

/// Encodes a message with its prefix, into one buffer of exactly the right size.
#[must_use]
pub fn encode<M: prost::Message>(message: &M) -> Bytes {
    let len = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + len);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(len).expect("responses are far below 4 GiB"));
    message.encode(&mut frame).expect("the buffer has the encoded length");
    frame.freeze()
}

/// What a prefix says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) compressed: bool,
    pub(super) len: usize,
}

/// Reads a prefix; `None` if it is not whole yet.
pub(super) fn prefix(bytes: &[u8]) -> Option<Prefix> {
    let (flag, rest) = bytes.split_first()?;
    let len = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
    Some(Prefix { compressed: *flag != 0, len: usize::try_from(len).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_prefix_and_the_message() {
        let message = quorate_wire::etcdserverpb::PutRequest {
            key: Bytes::from_static(b"k"),
            ..Default::default()
        };
        let frame = encode(&message);
        assert_eq!(frame.as_ref(), [0, 0, 0, 0, 3, 0x0a, 1, b'k']);
        assert_eq!(prefix(&frame), Some(Prefix { compressed: false, len: 3 }));
        assert_eq!(prefix(&frame[..4]), None);
    }
}
