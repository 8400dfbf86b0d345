//! Lines for whoever started the process. A reader who has gone (a closed pipe) is no reason to stop.

use std::io::Write;

/// A line on standard output.
pub fn say(line: impl std::fmt::Display) {
    let _reader_gone = writeln!(std::io::stdout(), "{line}");
}

/// A line on standard error.
pub fn complain(line: impl std::fmt::Display) {
    let _reader_gone = writeln!(std::io::stderr(), "{line}");
}
