//! The command line of a demo.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::flags::{self, Flag};
use crate::exit::Fatal;

/// What can be said.
pub(super) const FLAGS: &[Flag] = &[
    Flag { name: "orders", value: "N", help: "how many orders [3000]" },
    Flag { name: "seconds", value: "S", help: "as many orders as fit into this time instead" },
    Flag { name: "kinds", value: "LIST", help: "tcc, saga, msg [all]" },
    Flag { name: "parallel", value: "N", help: "orders under way at a time [48]" },
    Flag { name: "seed", value: "N", help: "the same orders and victims again [chosen]" },
    Flag { name: "no-kills", value: "", help: "kill nothing" },
    Flag { name: "dir", value: "DIR", help: "keep databases and logs there [a temporary one]" },
    Flag { name: "json", value: "", help: "print the result as JSON" },
];

/// How much there is to do at the most, so that names and sums stay readable.
const MOST_ORDERS: u64 = 10_000_000;

/// How one global transaction is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tcc,
    Saga,
    Msg,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Tcc, Self::Saga, Self::Msg];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcc => "tcc",
            Self::Saga => "saga",
            Self::Msg => "msg",
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Orders; with a time limit, an upper bound.
    pub(super) orders: u64,
    pub(super) time: Option<Duration>,
    pub(super) kinds: Vec<Kind>,
    pub(super) parallel: usize,
    pub(super) seed: u64,
    pub(super) kills: bool,
    pub(super) dir: Option<PathBuf>,
    pub(super) json: bool,
}

impl Options {
    /// Reads the command line.
    pub(super) fn read(args: &[String]) -> Result<Self, Fatal> {
        let mut options = Self {
            orders: 3000,
            time: None,
            kinds: Kind::ALL.to_vec(),
            parallel: 48,
            seed: crate::run::random() % 1_000_000,
            kills: true,
            dir: None,
            json: false,
        };
        let mut orders = None;
        for given in flags::split(args)? {
            let (name, value) = (given.name.as_str(), given.value.as_deref());
            match name {
                "orders" => orders = Some(number(name, value, 1, MOST_ORDERS)?),
                "seconds" => {
                    let seconds = number(name, value, 1, 86_400)?;
                    options.time = Some(Duration::from_secs(seconds));
                }
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
        let bound = if options.time.is_some() { MOST_ORDERS } else { options.orders };
        options.orders = orders.unwrap_or(bound);
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

fn kinds(value: Option<&str>) -> Result<Vec<Kind>, Fatal> {
    let kind = |name: &str| {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == name.trim());
        found.ok_or_else(|| Fatal::Usage(format!("--kinds: '{name}' is none of tcc, saga, msg")))
    };
    needed("kinds", value)?.split(',').map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, Fatal> {
        Options::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_line_is_read() {
        let options = read("--orders 5 --seed=7 --no-kills --kinds tcc --json").expect("options");
        assert_eq!(
            (options.orders, options.seed, options.kills, options.json),
            (5, 7, false, true)
        );
        assert_eq!(options.kinds, [Kind::Tcc]);
        let timed = read("--seconds 10").expect("options");
        assert_eq!((timed.time, timed.orders), (Some(Duration::from_secs(10)), MOST_ORDERS));
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in ["--orders 0", "--orders", "--kinds xyz", "--json yes", "--what 1", "orders"] {
            assert!(matches!(read(line), Err(Fatal::Usage(_))), "{line}");
        }
    }
}
