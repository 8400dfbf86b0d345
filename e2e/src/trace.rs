//! The order of a server's system calls: was a write on disk before it was acknowledged?
//!
//! `strace -f -yy -xx` prints each call with its file or connection and its bytes. A call enters at
//! one line and returns at the same or a later one. An acknowledgement is the HTTP/2 DATA frame of the
//! answer: with one client that sends put after put, the n-th DATA frame of the connection answers the
//! n-th put. [`covered`] demands, for each put, a file that received the put's bytes, then an fdatasync
//! (or fsync) of that file that was called after those writes had returned, and that returned 0 before
//! the call that sent the frame. [`covered_by_quorum`] demands it of several members in one trace.
//!
//! Left out: files written through memory maps, and servers that would write with io_uring; for those
//! the check fails rather than passes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// The calls to trace.
pub const CALLS: &str =
    "write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg,fsync,fdatasync";

/// What a call worked on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A file, by its path as strace spells it.
    File(String),
    /// A TCP connection, `local->remote`.
    Tcp(String),
    /// Anything else.
    Other,
}

/// One system call.
#[derive(Clone, Debug)]
pub struct Call {
    name: String,
    target: Target,
    bytes: Vec<u8>,
    /// Line on which it was called.
    entered: usize,
    /// Line on which it returned; `None` if the trace ends before.
    returned: Option<usize>,
    succeeded: bool,
}

/// Reads a whole trace.
///
/// # Errors
/// If a line is not as strace 6 writes it.
pub fn parse(text: &str) -> Result<Vec<Call>> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for (line_number, line) in text.lines().enumerate() {
        let (pid, rest) = line.trim_start().split_once(' ').context("a line begins with a pid")?;
        let rest = rest.trim_start();
        if rest.starts_with("<... ") {
            if let Some(index) = open.remove(pid) {
                calls[index].returned = Some(line_number);
                calls[index].succeeded = succeeded(rest);
            }
        } else if rest.starts_with(|first: char| first.is_ascii_lowercase()) {
            let unfinished = rest.ends_with("<unfinished ...>");
            let call = parse_call(rest, line_number, unfinished)
                .with_context(|| format!("line {}", line_number + 1))?;
            if unfinished {
                open.insert(pid, calls.len());
            }
            calls.push(call);
        }
    }
    Ok(calls)
}

fn parse_call(rest: &str, line_number: usize, unfinished: bool) -> Result<Call> {
    let (name, arguments) = rest.split_once('(').context("no arguments")?;
    let returned = (!unfinished).then_some(line_number);
    let succeeded = !unfinished && succeeded(rest);
    let (target, bytes) = (target(arguments), strings(arguments)?);
    Ok(Call { name: name.to_owned(), target, bytes, entered: line_number, returned, succeeded })
}

/// The result stands behind the last `= `.
fn succeeded(rest: &str) -> bool {
    rest.rsplit_once("= ")
        .is_some_and(|(_, result)| !result.starts_with('-') && !result.starts_with('?'))
}

/// `7<\x2f\x74>` is a file, `9<TCP:[a->b]>` a connection.
fn target(arguments: &str) -> Target {
    let described =
        arguments.split_once('<').filter(|(fd, _)| fd.bytes().all(|b| b.is_ascii_digit()));
    let Some((_, described)) = described else { return Target::Other };
    if let Some(connection) = described.strip_prefix("TCP:[") {
        return Target::Tcp(connection.split(']').next().unwrap_or_default().to_owned());
    }
    match described.split('>').next() {
        Some(path) if path.starts_with("\\x2f") => Target::File(path.to_owned()),
        _ => Target::Other,
    }
}

/// A file's path, as the system spells it.
fn path(target: &Target) -> Option<PathBuf> {
    let Target::File(hex) = target else { return None };
    let bytes = hex.split("\\x").skip(1).map(|hex| u8::from_str_radix(hex, 16));
    let bytes = bytes.collect::<Result<Vec<u8>, _>>().ok()?;
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

/// All quoted strings, joined: the buffers of the call.
fn strings(arguments: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for quoted in arguments.split('"').skip(1).step_by(2) {
        for hex in quoted.split("\\x").skip(1) {
            bytes.push(u8::from_str_radix(hex, 16).with_context(|| format!("'{hex}'"))?);
        }
    }
    Ok(bytes)
}

/// Bytes that were sent or written one after the other, and which call each came from.
#[derive(Default)]
struct Stream<'a> {
    bytes: Vec<u8>,
    /// Offset of each call's first byte, ascending.
    calls: Vec<(usize, &'a Call)>,
}

impl<'a> Stream<'a> {
    fn push(&mut self, call: &'a Call) {
        self.calls.push((self.bytes.len(), call));
        self.bytes.extend_from_slice(&call.bytes);
    }

    fn call_at(&self, offset: usize) -> &'a Call {
        let after = self.calls.partition_point(|(start, _)| *start <= offset);
        self.calls[after - 1].1 // the first call starts at 0
    }
}

/// Checks that the answer to each of `markers`, sent as puts in this order by the only client of
/// `client_port`, left after its bytes were synced. Each marker is a part of the put's value.
///
/// # Errors
/// Names the first put whose acknowledgement was not covered.
pub fn covered(calls: &[Call], client_port: u16, markers: &[String]) -> Result<()> {
    covered_by_quorum(calls, client_port, markers, &[PathBuf::from("/")], 1)
}

/// The same of a cluster whose members were traced together by one strace, so that the lines of all are in the
/// order of what happened: `quorum` of the members, told apart by their folders, must have synced each put.
///
/// # Errors
/// Names the first put whose acknowledgement was not covered.
pub fn covered_by_quorum(
    calls: &[Call],
    client_port: u16,
    markers: &[String],
    folders: &[PathBuf],
    quorum: usize,
) -> Result<()> {
    let answers = answers(calls, client_port)?;
    ensure!(
        answers.len() == markers.len(),
        "the trace shows {} answers to {} puts",
        answers.len(),
        markers.len()
    );
    let files = files(calls);
    for (marker, answer) in markers.iter().zip(answers) {
        let written: Vec<(&Target, &Call)> = files
            .iter()
            .filter_map(|(file, stream)| Some((*file, last_write(stream, marker.as_bytes())?)))
            .collect();
        ensure!(!written.is_empty(), "{marker}: acknowledged, but never written to a file");
        let synced = written.iter().filter(|(file, write)| is_synced(calls, file, write, answer));
        let synced: Vec<PathBuf> = synced.filter_map(|(file, _)| path(file)).collect();
        let in_time =
            folders.iter().filter(|folder| synced.iter().any(|at| at.starts_with(folder)));
        let members = in_time.count();
        if members < quorum {
            let line = answer.entered + 1;
            bail!("{marker}: acknowledged on line {line} when {members} of {quorum} had synced it");
        }
    }
    Ok(())
}

/// The calls that sent the first byte of each DATA frame to the connection with the most of them.
fn answers(calls: &[Call], client_port: u16) -> Result<Vec<&Call>> {
    let mut connections: BTreeMap<&Target, Stream<'_>> = BTreeMap::new();
    let local = format!(":{client_port}->");
    for call in calls {
        if matches!(&call.target, Target::Tcp(connection) if connection.contains(&local)) {
            connections.entry(&call.target).or_default().push(call);
        }
    }
    connections
        .values()
        .map(data_frames)
        .max_by_key(Vec::len)
        .context("no connection of the client in the trace")
}

/// HTTP/2 frames: 3 bytes of length, 1 of type (0 = DATA), 1 of flags, 4 of stream id.
fn data_frames<'a>(stream: &Stream<'a>) -> Vec<&'a Call> {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(header) = stream.bytes.get(at..at + 9) {
        let length =
            usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        if header[3] == 0 && length > 0 {
            frames.push(stream.call_at(at));
        }
        at += 9 + length;
    }
    frames
}

fn files(calls: &[Call]) -> BTreeMap<&Target, Stream<'_>> {
    let mut files: BTreeMap<&Target, Stream<'_>> = BTreeMap::new();
    for call in calls {
        if matches!(call.target, Target::File(_)) && !call.bytes.is_empty() {
            files.entry(&call.target).or_default().push(call);
        }
    }
    files
}

/// The call that wrote the last byte of the first appearance of `marker`.
fn last_write<'a>(stream: &Stream<'a>, marker: &[u8]) -> Option<&'a Call> {
    let start = stream.bytes.windows(marker.len()).position(|window| window == marker)?;
    Some(stream.call_at(start + marker.len() - 1))
}

fn is_synced(calls: &[Call], file: &Target, write: &Call, answer: &Call) -> bool {
    calls.iter().any(|call| {
        matches!(call.name.as_str(), "fdatasync" | "fsync")
            && call.target == *file
            && call.succeeded
            && write.succeeded
            && write.returned.is_some_and(|line| line < call.entered)
            && call.returned.is_some_and(|line| line < answer.entered)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "7<\\x2f\\x77>"; // "/w"
    const CLIENT: &str = "9<TCP:[127.0.0.1:2379->127.0.0.1:4000]>";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    fn write(marker: &str) -> String {
        format!("10 pwrite64({FILE}, \"{}\", 9, 0) = 9", hex(marker.as_bytes()))
    }

    fn answer() -> String {
        let frame = [0, 0, 1, 0, 1, 0, 0, 0, 1, 0xff];
        let headers = [0, 0, 0, 1, 4, 0, 0, 0, 1];
        let (first, second) = (hex(&headers), hex(&frame));
        format!(
            "11 writev({CLIENT}, [{{iov_base=\"{first}\"}}, {{iov_base=\"{second}\"}}], 2) = 19"
        )
    }

    fn sync() -> String {
        format!("10 fdatasync({FILE}) = 0")
    }

    fn verdict(lines: &[String]) -> Result<()> {
        let calls = parse(&lines.join("\n"))?;
        covered(&calls, 2379, &["mark-1".to_owned()])
    }

    #[test]
    fn written_synced_answered_is_covered() {
        verdict(&[write("mark-1"), sync(), answer()]).unwrap();
    }

    #[test]
    fn answered_before_the_sync_is_found() {
        verdict(&[write("mark-1"), answer(), sync()]).unwrap_err();
    }

    #[test]
    fn a_sync_that_began_before_the_write_returned_does_not_count() {
        let whole = write("mark-1");
        let called = whole.replace(") = 9", " <unfinished ...>");
        let returned = "10 <... pwrite64 resumed>) = 9".to_owned();
        let other = sync().replace("10 ", "12 ");
        verdict(&[called.clone(), returned.clone(), other.clone(), answer()]).unwrap();
        verdict(&[called, other, returned, answer()]).unwrap_err();
    }

    #[test]
    fn a_sync_that_returns_after_the_answer_or_fails_does_not_count() {
        let called = "10 fdatasync(7<\\x2f\\x77> <unfinished ...>".to_owned();
        let returned = "10 <... fdatasync resumed>) = 0".to_owned();
        verdict(&[write("mark-1"), called, answer(), returned]).unwrap_err();
        let failed = sync().replace("= 0", "= -1 EIO (Input/output error)");
        verdict(&[write("mark-1"), failed, answer()]).unwrap_err();
    }

    #[test]
    fn a_sync_of_another_file_does_not_count() {
        let other = sync().replace("\\x77", "\\x78");
        verdict(&[write("mark-1"), other, answer()]).unwrap_err();
    }

    #[test]
    fn a_quorum_is_counted_by_folders() {
        let member = |name: u8| format!("\\x2f\\x{name:02x}");
        let of = |line: String, name: u8| line.replace("\\x2f\\x77", &member(name));
        let lines = [
            of(write("mark-1"), b'a'),
            of(sync(), b'a'),
            of(write("mark-1"), b'b'),
            of(write("mark-1"), b'c'),
            of(sync(), b'c'),
            answer(),
            of(sync(), b'b'),
        ];
        let calls = parse(&lines.join("\n")).unwrap();
        let quorum = |folders: &[&str], quorum| {
            let folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
            covered_by_quorum(&calls, 2379, &["mark-1".to_owned()], &folders, quorum)
        };
        quorum(&["/a", "/b", "/c"], 2).unwrap();
        quorum(&["/a", "/b", "/c"], 3).unwrap_err();
        quorum(&["/a", "/b"], 2).unwrap_err();
    }

    #[test]
    fn a_missing_answer_or_write_is_found() {
        verdict(&[write("mark-1"), sync()]).unwrap_err();
        verdict(&[write("other"), sync(), answer()]).unwrap_err();
    }
}
