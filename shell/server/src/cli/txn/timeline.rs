//! A transaction's calls as bars over time, with what operators did between them.

use std::time::Duration;

use super::text::{duration, plain, short};
use crate::api::time::Time;
use crate::api::v1::types::{Call, Deed, Outcome, Timeline};

/// Columns of the bars.
const WIDTH: usize = 32;

/// Characters of an answer that are shown.
const ANSWER_CHARS: usize = 70;

/// Characters of an operator's name that are shown.
const WHO_CHARS: usize = 40;

/// Eighths of a column, from none to seven.
const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

enum Line<'a> {
    Call(&'a Call),
    Deed(&'a Deed),
}

impl Line<'_> {
    /// When it began, in µs since the transaction was created.
    fn begin_us(&self, created: Time) -> u64 {
        let since = |at: Time| at.0.saturating_sub(created.0) * 1000;
        match self {
            Self::Call(call) => since(call.at).saturating_sub(call.latency_us),
            Self::Deed(deed) => since(deed.at),
        }
    }

    fn end_us(&self, created: Time) -> u64 {
        match self {
            Self::Call(call) => self.begin_us(created) + call.latency_us,
            Self::Deed(_) => self.begin_us(created),
        }
    }
}

/// Its lines.
pub(super) fn draw(timeline: &Timeline, deeds: &[Deed]) -> Vec<String> {
    let created = timeline.created;
    let calls = timeline.calls.iter().map(Line::Call);
    let mut lines: Vec<Line<'_>> = calls.chain(deeds.iter().map(Line::Deed)).collect();
    lines.sort_by_key(|line| line.begin_us(created));
    let span = lines.iter().map(|line| line.end_us(created)).max().unwrap_or(0).max(1);
    let widths = widths(&timeline.calls);
    lines.iter().map(|line| told(line, created, span, widths)).collect()
}

/// Of branch and operation.
fn widths(calls: &[Call]) -> (usize, usize) {
    let widest = |text: fn(&Call) -> &str| {
        calls.iter().map(|call| text(call).chars().count()).max().unwrap_or(0)
    };
    (widest(|call| &call.branch_id), widest(|call| &call.op))
}

fn told(line: &Line<'_>, created: Time, span: u64, (branch, op): (usize, usize)) -> String {
    let begin = line.begin_us(created);
    let offset = format!("+{}", duration(Duration::from_micros(begin)));
    let text = match line {
        Line::Call(call) => format!(
            "{:<branch$}  {:<op$}  {:<7}  {:>9}  │{}│  {}",
            plain(&call.branch_id),
            plain(&call.op),
            outcome(call.outcome),
            duration(Duration::from_micros(call.latency_us)),
            bar(begin, call.latency_us, span),
            excerpt(call),
        ),
        Line::Deed(deed) => {
            let place = branch + op + 4 + 7 + 2 + 9 + 2;
            let mark = (begin * WIDTH as u64 / span).min(WIDTH as u64 - 1) as usize;
            let bar = format!("{}◆{}", " ".repeat(mark), " ".repeat(WIDTH - 1 - mark));
            let (by, what) = (short(&deed.by, WHO_CHARS), plain(&deed.what));
            format!("{:<place$}│{bar}│  {what}, by {by}", "by hand", place = place)
        }
    };
    format!("  {offset:>12}  {}", text.trim_end())
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "ok",
        Outcome::Failure => "refused",
        Outcome::Ongoing => "not yet",
        Outcome::Error => "error",
    }
}

fn excerpt(call: &Call) -> String {
    let attempts = match call.attempts {
        0 | 1 => String::new(),
        attempts => format!("{attempts} attempts; "),
    };
    format!("{attempts}{}", short(&call.text, ANSWER_CHARS))
}

/// A bar of [`WIDTH`] columns; what is too short to be seen is an eighth of one.
fn bar(begin_us: u64, latency_us: u64, span_us: u64) -> String {
    let eighths = (WIDTH * 8) as u64;
    let at = |us: u64| us.saturating_mul(eighths) / span_us;
    let first = (at(begin_us) / 8).min(WIDTH as u64 - 1);
    let last = at(begin_us + latency_us).clamp(first * 8 + 1, eighths);
    let length = last - first * 8;
    let full = "█".repeat((length / 8) as usize) + PARTS[(length % 8) as usize];
    let used = first as usize + full.chars().count();
    format!("{}{full}{}", " ".repeat(first as usize), " ".repeat(WIDTH - used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(at: u64, latency_ms: u64, outcome: Outcome, text: &str) -> Call {
        Call {
            at: Time(1_000_000 + at),
            branch_id: "01".to_owned(),
            op: "action".to_owned(),
            url: String::new(),
            latency_us: latency_ms * 1000,
            attempts: 1,
            outcome,
            text: text.to_owned(),
        }
    }

    #[test]
    fn bars_stand_where_the_time_was() {
        let calls = vec![
            call(100, 100, Outcome::Error, "status 500: no"),
            call(1600, 100, Outcome::Success, ""),
        ];
        let deed = Deed {
            at: Time(1_000_800),
            by: "ada".to_owned(),
            what: "retry now".to_owned(),
            why: String::new(),
        };
        let (gid, created) = ("g".to_owned(), Time(1_000_000));
        let timeline = Timeline { gid, created, calls, is_full: false, next: None };
        let lines = draw(&timeline, &[deed]);
        assert_eq!(
            lines,
            [
                "         +0 µs  01  action  error       100 ms  │██                              │  status 500: no",
                "       +800 ms  by hand                         │                ◆               │  retry now, by ada",
                "        +1.5 s  01  action  ok          100 ms  │                              ██│",
            ]
        );
    }

    #[test]
    fn bars_never_leave_their_frame() {
        for (begin, latency, span) in
            [(0, 0, 1), (9, 1, 10), (10, 0, 10), (0, 10, 10), (3, 1, 1000)]
        {
            assert_eq!(
                bar(begin, latency, span).chars().count(),
                WIDTH,
                "{begin} {latency} {span}"
            );
        }
    }
}
