//! `quorate demo order`: what global transactions are for, in one command.
//!
//! It starts a server and four services as processes of their own, each service with its own SQLite file:
//! `order` (CREATED, UPDATING, PAYED, CANCELED), `stock` (with frozen amounts), `points` (with points that are
//! added in advance) and `delivery` (notes). Then it has thousands of orders paid, each as one global
//! transaction over all four, while it kills and restarts them at random, the server included. At the end
//! it waits until no transaction is unfinished, adds up, and says whether the sums agree: exit code 1 if
//! not.
//!
//! | file | what |
//! |---|---|
//! | `options` | the command line |
//! | `plan` | which orders there are, from the seed |
//! | `child`, `town` | one process; all of them |
//! | `service` | what runs inside of the participants' processes |
//! | `pay` | one order |
//! | `chaos` | the kills |
//! | `run` | everything together |
//! | `check`, `table` | the sums, and how they are shown |

mod chaos;
mod check;
mod child;
mod options;
mod pay;
mod plan;
mod run;
mod service;
mod table;
mod tally;
mod town;

use crate::exit::Fatal;
use crate::terminal::say;
use options::Options;

/// `quorate demo NAME [flags]`.
pub(super) fn demo(args: &[String]) -> Result<(), Fatal> {
    match args.split_first() {
        Some((name, rest)) if name == "order" => {
            if rest.iter().any(|arg| matches!(arg.as_str(), "--help" | "-help" | "-h")) {
                return help();
            }
            run::order(&Options::read(rest)?)
        }
        Some((name, _)) if !name.starts_with('-') => {
            Err(Fatal::Usage(format!("no demo '{name}'; see quorate demo --help")))
        }
        _ => help(),
    }
}

/// A process that the demo starts: `quorate demo-service ROLE ...`, not for people.
pub(super) fn service(args: &[String]) -> Result<(), Fatal> {
    service::main(args)
}

fn help() -> Result<(), Fatal> {
    say(
        "quorate demo order: orders, stock, points and delivery change together, whatever is killed\n",
    );
    for flag in options::FLAGS {
        say(format_args!("  --{:<14} {}", format!("{} {}", flag.name, flag.value), flag.help));
    }
    Ok(())
}
