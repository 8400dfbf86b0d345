//! `quorate demo order`, `quorate demo bank`: what global transactions are for, in one command.
//!
//! Each starts one server, or three as a cluster, and services as processes of their own, each service with
//! its own SQLite file. Then it has thousands of *deeds* done, each as one global transaction over several
//! services, while it kills and restarts processes at random, servers included. At the end it waits until no
//! transaction is unfinished, adds up, and says whether the sums agree: exit code 1 if not.
//!
//! - **order**: an order is paid. Services: `order` (CREATED, UPDATING, PAYED, CANCELED), `stock` (with
//!   frozen amounts), `points` (with points that are added in advance), `delivery` (notes).
//! - **bank**: money moves from an account of one bank to one of another; the total never changes.
//!
//! | file | what |
//! |---|---|
//! | `options` | the command line |
//! | `story` | what makes one demo different from the other; `order`, `bank` are the two |
//! | `deed` | one deed as a global transaction of each kind |
//! | `child`, `town` | one process; all of them |
//! | `service` | what runs inside of the participants' processes |
//! | `chaos` | the kills |
//! | `run`, `progress` | everything together, and how far it is |
//! | `tally`, `check`, `table` | what happened, the sums, and how they are shown |

mod bank;
mod chaos;
mod check;
mod child;
mod deed;
mod options;
mod order;
mod progress;
mod run;
mod service;
mod story;
mod table;
mod tally;
mod town;

use crate::exit::Fatal;
use crate::terminal::say;
use bank::Banks;
use options::Options;
use order::Shop;
use story::Story;

/// `quorate demo NAME [flags]`.
pub(super) fn demo(args: &[String]) -> Result<(), Fatal> {
    if args.is_empty() || args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-help" | "-h")) {
        return help();
    }
    match args[0].as_str() {
        "order" => tell::<Shop>(&args[1..]),
        "bank" => tell::<Banks>(&args[1..]),
        other => Err(Fatal::Usage(format!("no demo '{other}': there are order and bank"))),
    }
}

fn tell<S: Story>(args: &[String]) -> Result<(), Fatal> {
    run::demo::<S>(&Options::read(args, S::WORDS.many)?)
}

/// A process that the demo starts: `quorate demo-service PARENT ROLE ...`, not for people.
pub(super) fn service(args: &[String]) -> Result<(), Fatal> {
    service::main(args)
}

fn help() -> Result<(), Fatal> {
    for (name, what) in [
        ("order", "orders, stock, points and delivery change together, whatever is killed"),
        ("bank", "transfers between four banks, whose money never becomes more or less"),
    ] {
        say(format_args!("  quorate demo {name:<8} {what}"));
    }
    say("");
    say(
        "Each runs a server and services with an SQLite file each on free ports of 127.0.0.1, kills all",
    );
    say(
        "of them at random, and ends with the sums: exit code 0 if they agree, 1 if not. Ctrl-C ends it",
    );
    say("early, with the table so far.");
    say("");
    for flag in options::FLAGS {
        say(format_args!("  --{:<14} {}", format!("{} {}", flag.name, flag.value), flag.help));
    }
    say("");
    say(
        "The kind xa is not among them: it needs a database with prepared transactions (PostgreSQL,",
    );
    say("MariaDB, MySQL), which SQLite has not.");
    Ok(())
}
