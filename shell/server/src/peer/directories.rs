//! Which data directory each peer has, remembered across starts (contract 8).
//!
//! A node that has lost its directory has lost votes and entries that it had acknowledged; under its old name
//! it could help to elect a leader without them. So the first directory that a peer shows is its own
//! for ever, and is on the disk before that peer is heard: the file `peer-directories`, replaced as a whole.
//! Its lines: `quorate peer directories 1`; for each peer `<node> <directory>`, 16 hexadecimal digits each,
//! ascending; the CRC-32C of all before, 8 digits.
//!
//! Left out: forgetting members that were removed. Their ids never come back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use quorate_consensus::NodeId;

use super::handshake::bad;
use crate::data_dir::write_durably;
use crate::exit::Fatal;

/// The file's name within the data directory.
const DIRECTORIES_FILE: &str = "peer-directories";

const TITLE: &str = "quorate peer directories 1\n";

/// See the module.
#[derive(Debug)]
pub struct Directories {
    root: PathBuf,
    known: BTreeMap<NodeId, u64>,
}

impl Directories {
    /// What the data directory `root` remembers.
    ///
    /// # Errors
    /// `Runtime` if the file cannot be read, `Refused` if it is damaged or of another version.
    pub fn load(root: &Path) -> Result<Self, Fatal> {
        let path = root.join(DIRECTORIES_FILE);
        let known = match std::fs::read_to_string(&path) {
            Ok(text) => decode(&text)
                .ok_or_else(|| Fatal::Refused(format!("{} is damaged", path.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Fatal::Runtime(format!("{}: {error}", path.display()))),
        };
        Ok(Self { root: root.to_path_buf(), known })
    }

    /// Whether this is the directory that the peer has always had. A new peer's is remembered, durably.
    ///
    /// # Errors
    /// The disk's; then nothing is remembered, and the peer must not be heard.
    pub(super) fn admits(&mut self, peer: NodeId, directory: u64) -> io::Result<bool> {
        if let Some(first) = self.known.get(&peer) {
            return Ok(*first == directory);
        }
        let mut known = self.known.clone();
        known.insert(peer, directory);
        let text = encode(&known);
        if decode(&text).as_ref() != Some(&known) {
            return Err(bad("what is remembered of peers could not be read back"));
        }
        write_durably(&self.root, &self.root.join(DIRECTORIES_FILE), &text)?;
        self.known = known;
        Ok(true)
    }
}

fn encode(known: &BTreeMap<NodeId, u64>) -> String {
    let mut text = TITLE.to_owned();
    for (node, directory) in known {
        writeln!(text, "{:016x} {directory:016x}", node.0).expect("a string takes everything");
    }
    let sum = crc32c::crc32c(text.as_bytes());
    writeln!(text, "{sum:08x}").expect("a string takes everything");
    text
}

fn decode(text: &str) -> Option<BTreeMap<NodeId, u64>> {
    let end = text.strip_suffix('\n')?.rfind('\n')? + 1;
    let (content, sum) = text.split_at(end);
    if u32::from_str_radix(sum.trim_end(), 16).ok()? != crc32c::crc32c(content.as_bytes()) {
        return None;
    }
    let peer = |line: &str| {
        let (node, directory) = line.split_once(' ')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some((NodeId(number(node)?), number(directory)?))
    };
    content.strip_prefix(TITLE)?.lines().map(peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
