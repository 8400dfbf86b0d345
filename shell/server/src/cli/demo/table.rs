//! What a demo says at its end.

use std::time::Duration;

use serde_json::{Value, json};

use super::check::{Books, Line};
use super::options::Options;
use super::tally::Tally;
use crate::terminal::say;

/// Everything that is told.
pub(super) struct Summary<'a> {
    pub(super) options: &'a Options,
    pub(super) tally: Tally,
    pub(super) before: Books,
    pub(super) after: Books,
    pub(super) lines: Vec<Line>,
    pub(super) kills: u64,
    /// Transactions that had not ended when the patience was over.
    pub(super) unfinished: Vec<String>,
    pub(super) paying: Duration,
    pub(super) settling: Duration,
    /// Requests of the payers, to the server and to the services.
    pub(super) attempts: u64,
    /// Those among them that were sent again.
    pub(super) repeated: u64,
}

impl Summary<'_> {
    /// Whether everything is as it must be.
    pub(super) fn holds(&self) -> bool {
        self.unfinished.is_empty() && self.lines.iter().all(Line::holds)
    }

    /// For people.
    pub(super) fn print(&self) {
        let Tally { committed, refused, cancelled, abandoned, .. } = &self.tally;
        let seed = self.options.seed;
        let row = |what: &str, is: &dyn std::fmt::Display| say(format_args!("  {what:<34} {is}"));
        say(format_args!("orders (seed {seed})"));
        row("begun", &self.tally.orders());
        row("committed", committed);
        row("refused (already paid, no stock)", refused);
        row("cancelled (a service was down)", cancelled);
        row("cancelled (the payer went away)", abandoned);
        row("unfinished", &self.unfinished.len());
        say("faults");
        row("processes killed and restarted", &self.kills);
        row("requests sent again", &self.repeated);
        row("calls that came twice, absorbed", &self.after.total("repeated"));
        row("cancels whose try never came", &self.after.total("empty"));
        row("tries after their cancel", &self.after.total("late"));
        say("work");
        row("requests of the payers", &self.attempts);
        row("changes in the four databases", &self.after.total("run"));
        row(
            "time",
            &format_args!(
                "{:.1} s, and {:.1} s until nothing was unfinished",
                self.paying.as_secs_f64(),
                self.settling.as_secs_f64()
            ),
        );
        row(
            "begin to decision",
            &format_args!(
                "p50 {:.1} ms, p99 {:.1} ms",
                self.tally.percentile_ms(0.5),
                self.tally.percentile_ms(0.99)
            ),
        );
        self.print_books();
    }

    fn print_books(&self) {
        let (before, after) = (&self.before, &self.after);
        say("sums                                   before     after");
        for (service, name) in [
            ("order", "PAYED"),
            ("order", "CANCELED"),
            ("stock", "available"),
            ("stock", "frozen"),
            ("stock", "sold"),
            ("stock", "bought"),
            ("points", "points"),
            ("delivery", "notes"),
        ] {
            let (old, new) = (before.number(service, name), after.number(service, name));
            let what = format!("{service}: {name}");
            say(format_args!("  {what:<34} {old:>8}  {new:>8}"));
        }
        say("checks");
        for Line { what, is, should_be } in &self.lines {
            let verdict = if is == should_be { "ok" } else { "WRONG" };
            say(format_args!("  {what:<34} {is:>8}  {should_be:>8}  {verdict}"));
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let Tally { committed, refused, cancelled, abandoned, .. } = &self.tally;
        let checks = self.lines.iter().map(|line| {
            json!({ "what": line.what, "is": line.is, "should_be": line.should_be, "ok": line.holds() })
        });
        json!({
            "ok": self.holds(),
            "seed": self.options.seed,
            "orders": self.tally.orders(),
            "committed": committed,
            "refused": refused,
            "cancelled": cancelled,
            "abandoned": abandoned,
            "unfinished": super::run::some(&self.unfinished),
            "kills": self.kills,
            "requests": self.attempts,
            "requests_again": self.repeated,
            "changes": self.after.total("run"),
            "absorbed": {
                "repeated": self.after.total("repeated"),
                "empty": self.after.total("empty"),
                "late": self.after.total("late"),
            },
            "seconds": self.paying.as_secs_f64(),
            "settling_seconds": self.settling.as_secs_f64(),
            "p50_ms": self.tally.percentile_ms(0.5),
            "p99_ms": self.tally.percentile_ms(0.99),
            "before": self.before.json(),
            "after": self.after.json(),
            "checks": checks.collect::<Vec<_>>(),
        })
    }
}
