//! How far a demo is, for somebody who watches: a bar on a terminal, now and then a line elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

use super::options::Options;
use super::tally::Tally;
use crate::terminal::complain;

/// Characters of the bar. The whole line fits into 80.
const BAR: usize = 16;
/// Between two looks of the bar, and between two lines.
const BAR_PAUSE: Duration = Duration::from_millis(100);
const LINE_PAUSE: Duration = Duration::from_secs(10);

/// Where and how it is shown.
pub(super) struct Progress {
    pause: Duration,
    is_bar: bool,
    deeds: Option<u64>,
    time: Option<Duration>,
    many: &'static str,
    begun: Instant,
    shown: Instant,
}

impl Progress {
    /// Begins now.
    pub(super) fn new(options: &Options, many: &'static str) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let is_bar = std::io::stderr().is_terminal() && !is_dumb && !options.json;
        let now = Instant::now();
        Self {
            pause: match (options.json, is_bar) {
                (true, _) => Duration::MAX,
                (false, true) => BAR_PAUSE,
                (false, false) => LINE_PAUSE,
            },
            is_bar,
            deeds: options.time.is_none().then_some(options.deeds),
            time: options.time,
            many,
            begun: now,
            shown: now,
        }
    }

    /// Since the beginning.
    pub(super) fn passed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Shows it if it is time to.
    pub(super) fn show(&mut self, tally: &Tally, kills: u64) {
        if self.shown.elapsed() < self.pause {
            return;
        }
        self.shown = Instant::now();
        let part = self.part(tally.total().all()).clamp(0.0, 1.0);
        let line = line(self.many, tally, kills);
        if self.is_bar {
            let full = (part * BAR as f64) as usize;
            let (full, rest) = ("#".repeat(full), ".".repeat(BAR - full));
            let _reader_gone = write!(std::io::stderr(), "\r[{full}{rest}] {line}\x1b[K");
        } else {
            complain(format_args!("{:3.0} %  {line}", part * 100.0));
        }
    }

    fn part(&self, ended: u64) -> f64 {
        match (self.deeds, self.time) {
            (Some(deeds), _) => ended as f64 / deeds as f64,
            (None, Some(time)) => self.passed().as_secs_f64() / time.as_secs_f64(),
            (None, None) => 0.0,
        }
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        if self.is_bar {
            let _reader_gone = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(many: &str, tally: &Tally, kills: u64) -> String {
    let ends = tally.total();
    let (all, committed, refused) = (ends.all(), ends.committed, ends.refused);
    let cancelled = ends.cancelled + ends.abandoned;
    format!(
        "{all} {many}: {committed} done, {refused} refused, {cancelled} cancelled; {kills} kills"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::options::Kind;
    use crate::cli::demo::tally::End;

    #[test]
    fn a_line_says_what_happened() {
        let mut tally = Tally::default();
        for end in [End::Committed, End::Refused, End::Cancelled, End::Abandoned] {
            tally.add(Kind::Saga, end, Duration::ZERO);
        }
        let wanted = "4 orders: 1 done, 1 refused, 2 cancelled; 9 kills";
        assert_eq!(line("orders", &tally, 9), wanted);
    }
}
