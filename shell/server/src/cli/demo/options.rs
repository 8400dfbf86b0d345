//! The command line of a demo.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::flags::{self, Flag};
use crate::exit::Fatal;

/// What can be said.
pub(super) const FLAGS: &[Flag] = &[
    Flag { name: "orders", value: "N", help: "demo order: how many [3000]" },
    Flag { name: "transfers", value: "N", help: "demo bank: how many [3000]" },
    Flag { name: "seconds", value: "S", help: "as many as fit into this time instead" },
    Flag { name: "nodes", value: "N", help: "one server, or three as a cluster [1]" },
    Flag { name: "kinds", value: "LIST", help: "tcc, saga, msg, workflow, 3pc [all of them]" },
    Flag { name: "parallel", value: "N", help: "how many are under way at a time [48]" },
    Flag { name: "seed", value: "N", help: "the same deeds and victims again [chosen]" },
    Flag { name: "no-kills", value: "", help: "kill nothing" },
    Flag { name: "dir", value: "DIR", help: "keep databases and logs there [a temporary one]" },
    Flag { name: "json", value: "", help: "print the result as JSON" },
];

/// How much there is to do at the most, so that names and sums stay readable.
const MOST_DEEDS: u64 = 10_000_000;

/// How one global transaction is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Tcc,
    Saga,
    Msg,
    Workflow,
    ThreePhase,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Tcc, Self::Saga, Self::Msg, Self::Workflow, Self::ThreePhase];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcc => "tcc",
            Self::Saga => "saga",
            Self::Msg => "msg",
            Self::Workflow => "workflow",
            Self::ThreePhase => "3pc",
        }
    }

    /// Whether a clerk can go away in the middle: sagas and workflows are handed over in one request.
    pub(super) fn can_be_abandoned(self) -> bool {
        !matches!(self, Self::Saga | Self::Workflow)
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Orders, transfers; with a time limit, an upper bound.
    pub(super) deeds: u64,
    pub(super) time: Option<Duration>,
    pub(super) nodes: usize,
    pub(super) kinds: Vec<Kind>,
    pub(super) parallel: usize,
    pub(super) seed: u64,
    pub(super) kills: bool,
    pub(super) dir: Option<PathBuf>,
    pub(super) json: bool,
}

impl Options {
    /// Reads the command line of the demo whose deeds are called `many`.
    pub(super) fn read(args: &[String], many: &str) -> Result<Self, Fatal> {
        let mut options = Self {
            deeds: 3000,
            time: None,
            nodes: 1,
            kinds: Kind::ALL.to_vec(),
            parallel: 48,
            seed: crate::run::random() % 1_000_000,
            kills: true,
            dir: None,
            json: false,
        };
        let mut deeds = None;
        for given in flags::split(args)? {
            let (name, value) = (given.name.as_str(), given.value.as_deref());
            match name {
                _ if name == many => deeds = Some(number(name, value, 1, MOST_DEEDS)?),
                "seconds" => {
                    let seconds = number(name, value, 1, 86_400)?;
                    options.time = Some(Duration::from_secs(seconds));
                }
                "nodes" => options.nodes = nodes(value)?,
                "kinds" => options.kinds = kinds(value)?,
                "parallel" => options.parallel = number(name, value, 1, 1000)? as usize,
                "seed" => options.seed = number(name, value, 0, u64::MAX)?,
                "dir" => options.dir = Some(PathBuf::from(needed(name, value)?)),
                "no-kills" if value.is_none() => options.kills = false,
                "json" if value.is_none() => options.json = true,
                "no-kills" | "json" => {
                    return Err(Fatal::Usage(format!("--{name} takes no value")));
                }
                _ => {
                    let sentence = format!("unknown flag --{name}; see quorate demo --help");
                    return Err(Fatal::Usage(sentence));
                }
            }
        }
        let bound = if options.time.is_some() { MOST_DEEDS } else { options.deeds };
        options.deeds = deeds.unwrap_or(bound);
        Ok(options)
    }
}

fn needed<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, Fatal> {
    value.ok_or_else(|| Fatal::Usage(format!("--{name} needs a value")))
}

fn number(name: &str, value: Option<&str>, least: u64, most: u64) -> Result<u64, Fatal> {
    let text = needed(name, value)?;
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    let wanted = || format!("--{name}: '{text}' is not a number from {least} to {most}");
    number.ok_or_else(|| Fatal::Usage(wanted()))
}

fn nodes(value: Option<&str>) -> Result<usize, Fatal> {
    match needed("nodes", value)? {
        "1" => Ok(1),
        "3" => Ok(3),
        other => Err(Fatal::Usage(format!("--nodes: '{other}' is neither 1 nor 3"))),
    }
}

fn kinds(value: Option<&str>) -> Result<Vec<Kind>, Fatal> {
    let kind = |name: &str| {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == name.trim());
        found.ok_or_else(|| Fatal::Usage(no_such_kind(name.trim())))
    };
    needed("kinds", value)?.split(',').map(kind).collect()
}

fn no_such_kind(name: &str) -> String {
    if name == "xa" {
        let why = "xa needs a database with prepared transactions, which SQLite has not";
        return format!("--kinds: {why}");
    }
    format!("--kinds: '{name}' is none of {}", Kind::ALL.map(Kind::name).join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, Fatal> {
        let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Options::read(&args, "orders")
    }

    #[test]
    fn a_command_line_is_read() {
        let options = read("--orders 5 --seed=7 --no-kills --kinds tcc --json").expect("options");
        assert_eq!((options.deeds, options.seed, options.kills, options.json), (5, 7, false, true));
        assert_eq!((options.nodes, options.kinds.as_slice()), (1, &[Kind::Tcc][..]));
        let timed = read("--seconds 10 --nodes 3").expect("options");
        assert_eq!((timed.time, timed.deeds), (Some(Duration::from_secs(10)), MOST_DEEDS));
        assert_eq!(timed.nodes, 3);
    }

    #[test]
    fn wrong_lines_are_refused() {
        assert_eq!(Kind::ALL.map(Kind::name).join(", "), "tcc, saga, msg, workflow, 3pc");
        for line in [
            "--orders 0",
            "--orders",
            "--transfers 5",
            "--kinds xyz",
            "--kinds xa",
            "--nodes 2",
            "--json yes",
            "--what 1",
            "orders",
        ] {
            assert!(matches!(read(line), Err(Fatal::Usage(_))), "{line}");
        }
    }
}
