//! The command line: which command, as what, and its help.
//!
//! Started under the name `etcd` the binary is `quorate serve` with etcd's defaults, so that launchers
//! of etcd need no change.

mod cluster;
mod demo;
mod inspect;
mod serve;
mod status;
mod txn;

use std::path::Path;
use std::process::ExitCode;

use crate::config::Persona;
use crate::config::flags::{FLAGS, HEADINGS};
use crate::exit::Fatal;
use crate::terminal::say;

/// Runs the process.
#[must_use]
pub fn main() -> ExitCode {
    let args: Option<Vec<String>> = std::env::args_os().map(|arg| arg.into_string().ok()).collect();
    let Some(args) = args else {
        return Fatal::Usage("arguments must be UTF-8".to_owned()).report();
    };
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => fatal.report(),
    }
}

fn dispatch(args: &[String]) -> Result<(), Fatal> {
    let (program, rest) = args.split_first().map_or(("quorate", &[][..]), |(p, r)| (p.as_str(), r));
    let name = Path::new(program).file_name().and_then(|name| name.to_str());
    let persona = if name == Some("etcd") { Persona::Etcd } else { Persona::Quorate };
    let first = rest.first().map(String::as_str);
    match first {
        Some("-h" | "--help" | "-help" | "help") => help(),
        Some("--version" | "-version" | "version" | "-V") => version(persona),
        Some("serve") => serve::serve(persona, &rest[1..]),
        _ if persona == Persona::Etcd => serve::serve(persona, rest),
        Some("status") => status::status(&rest[1..]),
        Some("txn") => txn::txn(&rest[1..]),
        Some("demo") => demo::demo(&rest[1..]),
        Some("demo-service") => demo::service(&rest[1..]),
        Some("inspect") => inspect::inspect(&rest[1..]),
        Some(other) => Err(Fatal::Usage(format!("unknown command '{other}'; see quorate --help"))),
        None => help(),
    }
}

fn version(persona: Persona) -> Result<(), Fatal> {
    // Launchers read etcd's version from this line.
    if persona == Persona::Etcd {
        say(format_args!("etcd Version: {}", crate::VERSION_TOLD));
    }
    say(format_args!("quorate {}", env!("CARGO_PKG_VERSION")));
    Ok(())
}

fn help() -> Result<(), Fatal> {
    say(format_args!("quorate: a replicated key-value store behind the etcd API\n"));
    say(format_args!("  quorate serve [flags]                     run a server"));
    say(format_args!("  quorate status [--endpoints URLS] [--json]   show a cluster"));
    say("  quorate txn ls|show|retry|skip|force|stop     see and operate global transactions");
    say(
        "  quorate demo [order|bank] [flags]         global transactions under kills, and the sums",
    );
    say(format_args!(
        "  quorate inspect DIR [--json]              check a data directory offline\n"
    ));
    say(format_args!(
        "Flags of serve (also QUORATE_NAME=... in the environment, name = ... in a file):"
    ));
    for flag in FLAGS {
        if let Some((_, heading)) = HEADINGS.iter().find(|(first, _)| *first == flag.name) {
            say(format_args!("\n{heading}"));
        }
        say(format_args!("  --{:<39} {}", format!("{} {}", flag.name, flag.value), flag.help));
    }
    say(format_args!(
        "\nExit codes: 0 stopped as asked, 1 runtime failure, 2 usage, 3 data refused."
    ));
    Ok(())
}
