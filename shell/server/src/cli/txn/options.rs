//! The command line of `quorate txn`.

use std::path::Path;

use crate::api::v1::types;
use crate::exit::Fatal;
use crate::terminal::say;

/// Where a server is if nobody says otherwise.
const ENDPOINT: &str = "http://127.0.0.1:2379";

/// Rows of a list if nobody says otherwise, and at the most.
const ROWS: (usize, usize) = (50, 1_000_000);

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) command: Command,
    pub(super) endpoints: Vec<String>,
    pub(super) json: bool,
    pub(super) payloads: bool,
    pub(super) by: String,
    pub(super) why: String,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `filter` is a part of a query, with an `&` in front.
    Ls {
        filter: String,
        limit: usize,
    },
    Show {
        gid: String,
    },
    Deed {
        gid: String,
        deed: Deed,
    },
}

/// What to do to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Retry,
    Skip { branch_id: String, op: String },
    Submit,
    Abort,
    Stop,
}

impl Deed {
    /// The last segment of its path.
    pub(super) fn route(&self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Skip { .. } => "skip",
            Self::Submit => "submit",
            Self::Abort => "abort",
            Self::Stop => "stop",
        }
    }

    /// What is said when it is done.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Retry => "tried again".to_owned(),
            Self::Skip { branch_id, op } => format!("{op} of branch {branch_id} taken as done"),
            Self::Submit => "decided: it shall happen".to_owned(),
            Self::Abort => "decided: it shall not happen".to_owned(),
            Self::Stop => "stopped".to_owned(),
        }
    }

    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "confirm" | "submit" => Self::Submit,
            "cancel" | "abort" => Self::Abort,
            "stop" => Self::Stop,
            _ => return None,
        })
    }
}

/// Flags as they were written.
#[derive(Default)]
struct Given {
    words: Vec<String>,
    values: Vec<(&'static str, String)>,
    switches: Vec<&'static str>,
}

const VALUES: [&str; 7] = ["endpoints", "status", "kind", "limit", "by", "why", "order"];
const SWITCHES: [&str; 5] = ["stuck", "unfinished", "json", "payloads", "help"];

impl Options {
    /// Reads the command line; `None`: it asks for help.
    pub(super) fn read(args: &[String]) -> Result<Option<Self>, Fatal> {
        let given = Given::read(args)?;
        let first = given.words.first().map(String::as_str);
        if given.has("help") || matches!(first, None | Some("help")) {
            return Ok(None);
        }
        let command = given.command()?;
        let why = match (&command, given.value("why")) {
            (_, Some(why)) => why.to_owned(),
            // It changes nothing that anybody would have to answer for.
            (Command::Deed { deed: Deed::Retry, .. }, None) => "retried by hand".to_owned(),
            (Command::Deed { .. }, None) => {
                let text = "say why, for those who read the audit later: --why 'TEXT'";
                return Err(Fatal::Usage(text.to_owned()));
            }
            _ => String::new(),
        };
        let endpoints = given.value("endpoints").unwrap_or(ENDPOINT).split(',');
        Ok(Some(Self {
            command,
            endpoints: endpoints.map(str::to_owned).collect(),
            json: given.has("json"),
            payloads: given.has("payloads"),
            by: given.value("by").map_or_else(whoami, str::to_owned),
            why,
        }))
    }
}

impl Given {
    fn read(args: &[String]) -> Result<Self, Fatal> {
        let mut given = Self::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            if arg == "--" {
                given.words.extend(rest.by_ref().cloned());
                break;
            }
            let Some(name) = arg.strip_prefix('-').filter(|name| !name.is_empty()) else {
                given.words.push(arg.clone());
                continue;
            };
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (if name == "h" { "help" } else { name }, None),
            };
            let known = |names: &[&'static str]| names.iter().copied().find(|known| *known == name);
            match (known(&SWITCHES), known(&VALUES)) {
                (Some(switch), _) if value.is_none() => given.switches.push(switch),
                (_, Some(name)) => {
                    let value = value.or_else(|| rest.next().cloned());
                    let missing = || Fatal::Usage(format!("--{name} needs a value"));
                    given.values.push((name, value.ok_or_else(missing)?));
                }
                _ => return Err(unknown(&format!("flag --{name}"))),
            }
        }
        Ok(given)
    }

    fn has(&self, switch: &str) -> bool {
        self.switches.contains(&switch)
    }

    /// The last one counts.
    fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    fn command(&self) -> Result<Command, Fatal> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let deed = |gid: &str, deed| Ok(Command::Deed { gid: gid.to_owned(), deed });
        match words[..] {
            ["ls"] => Ok(Command::Ls { filter: self.filter()?, limit: self.limit()? }),
            ["show", gid] => Ok(Command::Show { gid: gid.to_owned() }),
            ["retry", gid] => deed(gid, Deed::Retry),
            ["stop", gid] => deed(gid, Deed::Stop),
            ["skip", gid, branch_id, op] => {
                deed(gid, Deed::Skip { branch_id: branch_id.to_owned(), op: op.to_owned() })
            }
            ["force", gid, word] => match Deed::named(word) {
                Some(named) => deed(gid, named),
                None => Err(Fatal::Usage("force GID confirm|cancel|stop".to_owned())),
            },
            [command @ ("show" | "retry" | "stop"), ..] => {
                Err(Fatal::Usage(format!("txn {command} takes one transaction: txn {command} GID")))
            }
            ["skip", ..] => Err(Fatal::Usage("txn skip GID BRANCH OP --why TEXT".to_owned())),
            ["force", ..] => {
                Err(Fatal::Usage("txn force GID confirm|cancel|stop --why TEXT".to_owned()))
            }
            ["ls", ..] => Err(Fatal::Usage("txn ls takes flags only".to_owned())),
            [other, ..] => Err(unknown(&format!("command '{other}'"))),
            [] => Err(unknown("nothing")),
        }
    }

    fn filter(&self) -> Result<String, Fatal> {
        let mut filter = String::new();
        if self.has("stuck") {
            filter += "&stuck=true";
        }
        if self.has("unfinished") {
            filter += "&order=due";
        }
        for (name, words) in [
            ("status", &["prepared", "submitted", "aborting", "succeed", "failed"][..]),
            ("kind", &["saga", "tcc", "xa", "msg", "workflow", "3pc"]),
            ("order", &["gid", "due", "ended"]),
        ] {
            let Some(value) = self.value(name) else { continue };
            if !words.contains(&value) {
                return Err(Fatal::Usage(format!("--{name} must be one of {}", words.join(", "))));
            }
            filter += &format!("&{name}={value}");
        }
        Ok(filter)
    }

    fn limit(&self) -> Result<usize, Fatal> {
        let Some(text) = self.value("limit") else { return Ok(ROWS.0) };
        let limit = text.parse().ok().filter(|limit| (1..=ROWS.1).contains(limit));
        limit.ok_or_else(|| Fatal::Usage(format!("--limit must be from 1 to {}", ROWS.1)))
    }
}

fn unknown(what: &str) -> Fatal {
    Fatal::Usage(format!("unknown {what} of txn; see quorate txn --help"))
}

/// The user and the machine, as far as they can be told.
fn whoami() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME"));
    let user = user.unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()));
    let host = std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).ok();
    let host = host.map(|host| host.trim().to_owned()).or_else(|| variable("HOSTNAME"));
    let name = format!("{user}@{}", host.unwrap_or_else(|| "unknown".to_owned()));
    name.chars().take(types::BY_CHARS).collect()
}

/// Says how it is used.
pub(super) fn help() {
    for line in [
        "quorate txn: global transactions, seen and operated\n",
        "  txn ls                            all of them, by name",
        "      --stuck                       those whose call has failed so often that it was reported",
        "      --unfinished                  those that have not ended, the longest overdue first",
        "      --order ended                 those that have ended, the earliest first",
        "      --status prepared|submitted|aborting|succeed|failed",
        "      --kind saga|tcc|xa|msg|workflow|3pc",
        "      --limit N                     rows [50]",
        "                                    DONE: operations that succeeded, WAITS: those waited for",
        "  txn show GID [--payloads]         one, with its branches, its timeline and its audit",
        "  txn retry GID                     try what it waits for now",
        "  txn skip GID BRANCH OP            take an operation that it waits for as done",
        "  txn force GID confirm             decide that it shall happen (same as: submit)",
        "  txn force GID cancel              decide that it shall not (same as: abort)",
        "  txn stop GID                      end it as failed; nobody is told any more\n",
        "  --endpoints URLS                  any members [http://127.0.0.1:2379]",
        "  --why TEXT                        why, for the audit; needed by skip, force and stop",
        "  --by NAME                         who, for the audit [user@host]",
        "  --json                            print JSON",
        "  --                                what follows is no flag\n",
        "Exit codes: 0 done, 1 refused or no answer, 2 usage.",
    ] {
        say(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Options>, Fatal> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::read(&args)
    }

    #[test]
    fn commands_are_read() {
        let options = read("ls --stuck --kind=tcc --limit 7 --endpoints a:1,b:2 --json");
        let options = options.unwrap().unwrap();
        let filter = "&stuck=true&kind=tcc".to_owned();
        assert_eq!(options.command, Command::Ls { filter, limit: 7 });
        assert_eq!((options.endpoints.len(), options.json), (2, true));
        let options = read("skip g 01 action --why paid --by ada").unwrap().unwrap();
        let deed = Deed::Skip { branch_id: "01".to_owned(), op: "action".to_owned() };
        assert_eq!(options.command, Command::Deed { gid: "g".to_owned(), deed });
        assert_eq!((options.by.as_str(), options.why.as_str()), ("ada", "paid"));
        let options = read("show -- --odd").unwrap().unwrap();
        assert_eq!(options.command, Command::Show { gid: "--odd".to_owned() });
        let options = read("retry g").unwrap().unwrap();
        assert!(options.by.contains('@') && !options.why.is_empty());
        for line in ["", "help", "ls --help", "show g -h"] {
            assert_eq!(read(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "list",
            "ls g",
            "ls --stuk",
            "ls --limit 0",
            "ls --status ended",
            "show",
            "show a b",
            "skip g 01 --why w",
            "force g maybe --why w",
            "force g confirm",
            "stop g",
            "stop g --why",
        ] {
            assert!(matches!(read(line), Err(Fatal::Usage(_))), "{line}");
        }
    }
}
