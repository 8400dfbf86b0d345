//! The name of a prepared transaction: part of statements that take no parameters, so nothing gets in that
//! could end a string.

use std::fmt;

use crate::error::Error;

/// Longest name, in bytes: MySQL's bound. (PostgreSQL's is 199.)
const MAX_BYTES: usize = 64;

/// `GID-BRANCH`, as DTM's clients have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xid {
    gid: String,
    branch_id: String,
}

impl Xid {
    /// The name of this branch's transaction.
    ///
    /// # Errors
    /// `Malformed` if the gid holds a quote, a backslash, a space, or anything that is not ASCII; if the
    /// branch id is not made of digits; if both are longer than 63 bytes together.
    pub fn new(gid: &str, branch_id: &str) -> Result<Self, Error> {
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'\'' | b'"' | b'`' | b'\\');
        let fits = gid.len() + 1 + branch_id.len() <= MAX_BYTES;
        let named = !gid.is_empty() && !branch_id.is_empty();
        if !(fits
            && named
            && gid.bytes().all(plain)
            && branch_id.bytes().all(|b| b.is_ascii_digit()))
        {
            let why = format!("'{gid}' and '{branch_id}' cannot name an XA transaction");
            return Err(Error::Malformed(why));
        }
        Ok(Self { gid: gid.to_owned(), branch_id: branch_id.to_owned() })
    }

    /// Reads a name that a database lists; `None` if it is nobody's of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (gid, branch_id) = name.rsplit_once('-')?;
        Self::new(gid, branch_id).ok()
    }

    /// The global transaction.
    #[must_use]
    pub fn gid(&self) -> &str {
        &self.gid
    }

    /// The branch.
    #[must_use]
    pub fn branch_id(&self) -> &str {
        &self.branch_id
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.gid, self.branch_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_end_a_string_names_nothing() {
        let long = "g".repeat(62);
        for gid in ["", "a'b", "a\"b", "a`b", "a\\b", "a b", "a\nb", "\u{e4}", &long] {
            assert!(Xid::new(gid, "01").is_err(), "{gid}");
        }
        for branch_id in ["", "a", "01-01", "0'1"] {
            assert!(Xid::new("g", branch_id).is_err(), "{branch_id}");
        }
    }

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for gid in ["g", "a-b-01", "x/y.z:9"] {
            let xid = Xid::new(gid, "0102").expect("a name");
            assert_eq!(Xid::parse(&xid.to_string()), Some(xid));
        }
        assert_eq!(Xid::parse("somebody_elses"), None);
    }
}
