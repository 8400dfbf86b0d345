//! What a demo says at its end.

use std::fmt::Display;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::check::{Books, Line};
use super::options::Options;
use super::story::Words;
use super::tally::{Ends, Tally, Times};
use super::town::{Calls, Kills};
use crate::terminal::say;

/// Everything that is told.
pub(super) struct Summary<'a> {
    pub(super) options: &'a Options,
    pub(super) words: Words,
    pub(super) tally: Tally,
    /// What they are called, before, and after.
    pub(super) sums: Vec<(&'static str, i64, i64)>,
    pub(super) before: Books,
    pub(super) after: Books,
    pub(super) lines: Vec<Line>,
    pub(super) kills: Kills,
    /// Of the servers.
    pub(super) calls: Calls,
    /// Transactions that had not ended when the patience was over.
    pub(super) unfinished: Vec<String>,
    pub(super) doing: Duration,
    pub(super) settling: Duration,
    /// Requests of the clerks, to the server and to the services.
    pub(super) requests: u64,
    /// Those among them that were sent again.
    pub(super) repeated: u64,
}

/// A line of the table.
fn row(what: &str, is: impl Display) {
    say(format_args!("  {what:<34} {is}"));
}

impl Summary<'_> {
    /// Whether everything is as it must be.
    pub(super) fn holds(&self) -> bool {
        self.unfinished.is_empty() && self.lines.iter().all(Line::holds)
    }

    /// For people.
    pub(super) fn print(&self) {
        self.print_deeds();
        self.print_faults();
        self.print_work();
        say(format_args!("{:<34} {:>11} {:>11}", "sums", "before", "after"));
        for (what, before, after) in &self.sums {
            say(format_args!("  {what:<32} {before:>11} {after:>11}"));
        }
        say(format_args!("{:<34} {:>11} {:>11}", "checks", "is", "should be"));
        for line @ Line { what, is, should_be } in &self.lines {
            let verdict = if line.holds() { "ok" } else { "WRONG" };
            say(format_args!("  {what:<32} {is:>11} {should_be:>11}  {verdict}"));
        }
    }

    fn print_deeds(&self) {
        let many = self.words.many;
        say(format_args!(
            "{:<10} {:>7} {:>9} {:>7} {:>9} {:>9} {:>8} {:>8}",
            many, "begun", "committed", "refused", "cancelled", "abandoned", "p50 ms", "p99 ms"
        ));
        for (kind, ends, times) in self.tally.kinds() {
            print_ends(kind.name(), &ends, times);
        }
        print_ends("all", &self.tally.total(), &self.tally.times());
        row("refused, for a good reason", self.words.refused);
        row("cancelled", "a service was away for too long");
        row("abandoned", "whoever began it went away; cancelled, or found out");
        row("unfinished", self.unfinished.len());
    }

    fn print_faults(&self) {
        let Kills { all, servers, leaders } = self.kills;
        say("faults");
        row("processes killed and restarted", all);
        if self.options.nodes > 1 {
            row("  servers among them", format_args!("{servers}, {leaders} while leading"));
        } else {
            row("  the server among them", servers);
        }
        row("requests sent again", self.repeated);
        row("calls that came twice, absorbed", self.after.total("repeated"));
        row("cancels whose try never came", self.after.total("empty"));
        row("tries after their cancel", self.after.total("late"));
    }

    fn print_work(&self) {
        let seconds = self.doing.as_secs_f64();
        say("work");
        row("seed", self.options.seed);
        row("requests of the clerks", self.requests);
        let Calls { succeeded, failed } = self.calls;
        row("calls of the server to services", succeeded + failed);
        row("  failed, most were tried again", failed);
        row("changes in the services' databases", self.after.total("run"));
        row(
            "time",
            format_args!(
                "{seconds:.1} s ({:.0} a second), {:.1} s until all had ended",
                self.tally.total().all() as f64 / seconds.max(0.001),
                self.settling.as_secs_f64()
            ),
        );
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let checks = self.lines.iter().map(|line| {
            json!({ "what": line.what, "is": line.is, "should_be": line.should_be, "ok": line.holds() })
        });
        let kinds = self.tally.kinds().map(|(kind, ends, times)| {
            (kind.name().to_owned(), Value::Object(ends_json(self.words.many, &ends, times)))
        });
        let mut json = ends_json(self.words.many, &self.tally.total(), &self.tally.times());
        let rest = json!({
            "ok": self.holds(),
            "seed": self.options.seed,
            "nodes": self.options.nodes,
            "kinds": kinds.collect::<Map<_, _>>(),
            "unfinished": self.unfinished,
            "kills": self.kills.all,
            "server_kills": self.kills.servers,
            "leader_kills": self.kills.leaders,
            "requests": self.requests,
            "requests_again": self.repeated,
            "calls": { "succeeded": self.calls.succeeded, "failed": self.calls.failed },
            "changes": self.after.total("run"),
            "absorbed": {
                "repeated": self.after.total("repeated"),
                "empty": self.after.total("empty"),
                "late": self.after.total("late"),
            },
            "seconds": self.doing.as_secs_f64(),
            "settling_seconds": self.settling.as_secs_f64(),
            "before": self.before.json(),
            "after": self.after.json(),
            "checks": checks.collect::<Vec<_>>(),
        });
        if let Value::Object(rest) = rest {
            json.extend(rest);
        }
        Value::Object(json)
    }
}

fn print_ends(name: &str, ends: &Ends, times: &Times) {
    let Ends { committed, refused, cancelled, abandoned } = ends;
    say(format_args!(
        "  {name:<8} {:>7} {committed:>9} {refused:>7} {cancelled:>9} {abandoned:>9} {:>8.1} {:>8.1}",
        ends.all(),
        times.percentile_ms(0.5),
        times.percentile_ms(0.99),
    ));
}

fn ends_json(many: &str, ends: &Ends, times: &Times) -> Map<String, Value> {
    let Ends { committed, refused, cancelled, abandoned } = *ends;
    let counts = [
        (many, ends.all()),
        ("committed", committed),
        ("refused", refused),
        ("cancelled", cancelled),
        ("abandoned", abandoned),
    ];
    let times = [("p50_ms", times.percentile_ms(0.5)), ("p99_ms", times.percentile_ms(0.99))];
    let counts = counts.map(|(name, count)| (name.to_owned(), Value::from(count)));
    counts.into_iter().chain(times.map(|(name, ms)| (name.to_owned(), ms.into()))).collect()
}
