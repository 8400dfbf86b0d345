//! Which data directory each peer has, and what it was seen to promise, remembered across starts (contract 8).
//!
//! A node that has lost its directory has lost votes and entries that it had acknowledged; under its old name
//! it could help to elect a leader without them. So the first directory that a peer shows is its own
//! for ever, and is on the disk before that peer is heard. What was seen of it is written down now and then.
//!
//! The file is `peer-directories`, replaced as a whole. Its lines: `quorate peer directories 2`; for each peer
//! `<node> <directory> <group> <index> <term> <vote term> <vote>`, the last five as in a group record of the
//! handshake (`papers.rs`), the group with 8 hexadecimal digits and all else with 16, nodes ascending; the
//! CRC-32C of all before, 8 digits. Version 1 had node and directory alone, and is still read.
//!
//! Left out: forgetting members that were removed. Their ids never come back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use quorate_consensus::{GroupId, LogIndex, NodeId, Term, Witness};

use super::handshake::bad;
use crate::data_dir::write_durably;
use crate::exit::Fatal;

/// The file's name within the data directory.
const DIRECTORIES_FILE: &str = "peer-directories";

const TITLE: &str = "quorate peer directories 2\n";
const TITLE_1: &str = "quorate peer directories 1\n";

/// What is known of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    directory: u64,
    seen: Witness,
}

/// See the module.
#[derive(Debug)]
pub struct Directories {
    root: PathBuf,
    known: BTreeMap<NodeId, Known>,
}

impl Directories {
    /// What the data directory `root` remembers.
    ///
    /// # Errors
    /// `Runtime` if the file cannot be read, `Refused` if it is damaged or of another version.
    pub fn load(root: &Path) -> Result<Self, Fatal> {
        let path = root.join(DIRECTORIES_FILE);
        let known = match std::fs::read_to_string(&path) {
            Ok(text) => decode(&text).ok_or_else(|| {
                Fatal::Refused(format!("{} is damaged, or of a newer version", path.display()))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Fatal::Runtime(format!("{}: {error}", path.display()))),
        };
        Ok(Self { root: root.to_path_buf(), known })
    }

    /// The directory of this peer, if it has shown one.
    pub(super) fn of(&self, peer: NodeId) -> Option<u64> {
        self.known.get(&peer).map(|known| known.directory)
    }

    /// What was seen of all peers, as far as it was written down.
    pub(super) fn seen(&self) -> BTreeMap<NodeId, Witness> {
        self.known.iter().map(|(peer, known)| (*peer, known.seen)).collect()
    }

    /// Whether this is the directory that the peer has always had. A new peer's is remembered, durably.
    ///
    /// # Errors
    /// The disk's; then nothing is remembered, and the peer must not be heard.
    pub(super) fn admits(&mut self, peer: NodeId, directory: u64) -> io::Result<bool> {
        if let Some(known) = self.known.get(&peer) {
            return Ok(known.directory == directory);
        }
        let mut known = self.known.clone();
        known.insert(peer, Known { directory, seen: Witness::default() });
        self.write(known)?;
        Ok(true)
    }

    /// Writes down what was seen of the peers whose directories are known.
    ///
    /// # Errors
    /// The disk's; then what was written before stands.
    pub(super) fn remember(&mut self, seen: &BTreeMap<NodeId, Witness>) -> io::Result<()> {
        let mut known = self.known.clone();
        for (peer, seen) in seen {
            if let Some(known) = known.get_mut(peer) {
                known.seen = known.seen.and(*seen);
            }
        }
        if known == self.known { Ok(()) } else { self.write(known) }
    }

    fn write(&mut self, known: BTreeMap<NodeId, Known>) -> io::Result<()> {
        let text = encode(&known);
        if decode(&text).as_ref() != Some(&known) {
            return Err(bad("what is remembered of peers could not be read back"));
        }
        write_durably(&self.root, &self.root.join(DIRECTORIES_FILE), &text)?;
        self.known = known;
        Ok(())
    }
}

fn encode(known: &BTreeMap<NodeId, Known>) -> String {
    let mut text = TITLE.to_owned();
    for (node, Known { directory, seen }) in known {
        write!(text, "{:016x} {directory:016x} {:08x}", node.0, crate::GROUP.0)
            .expect("a string takes everything");
        for number in [seen.index.0, seen.index_term.0, seen.vote_term.0, seen.vote.0] {
            write!(text, " {number:016x}").expect("a string takes everything");
        }
        text.push('\n');
    }
    let sum = crc32c::crc32c(text.as_bytes());
    writeln!(text, "{sum:08x}").expect("a string takes everything");
    text
}

fn decode(text: &str) -> Option<BTreeMap<NodeId, Known>> {
    let end = text.strip_suffix('\n')?.rfind('\n')? + 1;
    let (content, sum) = text.split_at(end);
    if u32::from_str_radix(sum.trim_end(), 16).ok()? != crc32c::crc32c(content.as_bytes()) {
        return None;
    }
    if let Some(lines) = content.strip_prefix(TITLE_1) {
        return lines.lines().map(|line| peer(&numbers(line)?)).collect();
    }
    content.strip_prefix(TITLE)?.lines().map(|line| peer_and_seen(&numbers(line)?)).collect()
}

fn numbers(line: &str) -> Option<Vec<u64>> {
    line.split(' ').map(|number| u64::from_str_radix(number, 16).ok()).collect()
}

/// A line of version 1.
fn peer(numbers: &[u64]) -> Option<(NodeId, Known)> {
    let [node, directory] = *numbers else { return None };
    Some((NodeId(node), Known { directory, seen: Witness::default() }))
}

fn peer_and_seen(numbers: &[u64]) -> Option<(NodeId, Known)> {
    let [node, directory, group, index, index_term, vote_term, vote] = *numbers else {
        return None;
    };
    if GroupId(u32::try_from(group).ok()?) != crate::GROUP {
        return None;
    }
    let (index, index_term) = (LogIndex(index), Term(index_term));
    let seen = Witness { index, index_term, vote_term: Term(vote_term), vote: NodeId(vote) };
    Some((NodeId(node), Known { directory, seen }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(index: u64) -> Witness {
        let (index, index_term) = (LogIndex(index), Term(2));
        Witness { index, index_term, vote_term: Term(4), vote: NodeId(9) }
    }

    #[test]
    fn a_peer_keeps_its_first_directory_across_starts() {
        let dir = tempfile::tempdir().expect("temp");
        let load = || Directories::load(dir.path()).expect("readable");
        let mut first = load();
        assert!(first.admits(NodeId(7), 1).expect("written"));
        assert!(first.admits(NodeId(9), 3).expect("written"));
        let mut second = load();
        assert!(second.admits(NodeId(7), 1).expect("known"));
        assert!(!second.admits(NodeId(7), 2).expect("known"), "it was wiped");
        assert!(!second.admits(NodeId(9), 1).expect("known"));
    }

    #[test]
    fn what_was_seen_is_remembered_and_never_taken_back() {
        let dir = tempfile::tempdir().expect("temp");
        let mut first = Directories::load(dir.path()).expect("none");
        assert!(first.admits(NodeId(7), 1).expect("written"));
        let strangers = [(NodeId(7), seen(5)), (NodeId(8), seen(6))];
        first.remember(&BTreeMap::from(strangers)).expect("written");
        first.remember(&BTreeMap::from([(NodeId(7), seen(3))])).expect("nothing new");
        let second = Directories::load(dir.path()).expect("readable");
        assert_eq!(second.seen(), BTreeMap::from([(NodeId(7), seen(5))]));
        assert_eq!((second.of(NodeId(7)), second.of(NodeId(8))), (Some(1), None));
    }

    #[test]
    fn version_1_is_read() {
        let content = format!("{TITLE_1}{:016x} {:016x}\n", 7, 1);
        let text = format!("{content}{:08x}\n", crc32c::crc32c(content.as_bytes()));
        let known = Known { directory: 1, seen: Witness::default() };
        assert_eq!(decode(&text), Some(BTreeMap::from([(NodeId(7), known)])));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let dir = tempfile::tempdir().expect("temp");
        assert!(
            Directories::load(dir.path()).expect("none").admits(NodeId(7), 1).expect("written")
        );
        let path = dir.path().join(DIRECTORIES_FILE);
        let whole = std::fs::read(&path).expect("there");
        for at in 0..whole.len() - 1 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).expect("written");
            assert!(Directories::load(dir.path()).is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).expect("written");
            assert!(Directories::load(dir.path()).is_err(), "cut at {at}");
        }
    }
}
