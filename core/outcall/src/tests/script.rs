//! The language of `testscripts/`: inputs to one machine, and the transcript of what follows.
//!
//! | command | meaning |
//! |---|---|
//! | `machine [attempts= share= queue= calls= bytes= destinations= failures= suspension=]` | a new one, times in ms |
//! | `at MS` | from now on it is so late; ticks that are due come first, at their time |
//! | `late MS` | the same without ticks |
//! | `start ID URL [timeout= within= attempts= pause= grpc=true body=]` | a call, times in ms |
//! | `answer ATTEMPT STATUS [TEXT]` | an attempt is answered |
//! | `fail ATTEMPT refused\|broken\|nonsense\|slow\|unsendable` | or is not |
//! | `cancel ID`, `tick` | |
//! | `figures` | what an operator sees |

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use goldenscript::{ArgumentConsumer, Command, Context, Runner};

use super::MS;
use crate::limits::Limits;
use crate::{
    AttemptId, AttemptResult, Call, CallFailure, CallId, CallResult, Input, Outcalls, Output,
    RetryPolicy, Wire,
};

type Failure = Box<dyn Error>;

struct Script {
    machine: Outcalls,
    now: Duration,
}

fn number<T: std::str::FromStr>(text: Option<&str>) -> Result<T, Failure> {
    let text = text.ok_or("a number is missing")?;
    text.parse().map_err(|_| format!("not a number: {text}").into())
}

fn key<T: std::str::FromStr>(
    args: &mut ArgumentConsumer<'_>,
    name: &str,
    otherwise: T,
) -> Result<T, Failure> {
    args.take_key(name).map_or(Ok(otherwise), |text| number(Some(text)))
}

fn ms(args: &mut ArgumentConsumer<'_>, name: &str, otherwise: u64) -> Result<Duration, Failure> {
    Ok(Duration::from_millis(key(args, name, otherwise)?))
}

fn limits(args: &mut ArgumentConsumer<'_>) -> Result<Limits, Failure> {
    let usual = Limits::default();
    Ok(Limits {
        attempts: key(args, "attempts", usual.attempts)?,
        attempts_per_destination: key(args, "share", usual.attempts_per_destination)?,
        waiting_per_destination: key(args, "queue", usual.waiting_per_destination)?,
        calls: key(args, "calls", usual.calls)?,
        bytes: key(args, "bytes", usual.bytes)?,
        destinations: key(args, "destinations", usual.destinations)?,
        failures: key(args, "failures", usual.failures)?,
        suspension: ms(args, "suspension", 1_000)?,
        ..usual
    })
}

fn parse_call(args: &mut ArgumentConsumer<'_>) -> Result<Call, Failure> {
    let usual = super::call(args.next_pos().ok_or("a URL is missing")?);
    let pause = ms(args, "pause", 0)?;
    Ok(Call {
        wire: if key(args, "grpc", false)? { Wire::Grpc } else { usual.wire },
        timeout: ms(args, "timeout", 100)?,
        body: args.take_key("body").map_or_else(Bytes::new, |text| text.to_owned().into()),
        retry: RetryPolicy {
            attempts: key(args, "attempts", 1)?,
            within: ms(args, "within", 200)?,
            pause,
            longest_pause: 4 * pause,
        },
        ..usual
    })
}

fn failure(name: Option<&str>) -> Result<AttemptResult, Failure> {
    Ok(AttemptResult::Failed(match name.ok_or("a kind of failure is missing")? {
        "refused" => CallFailure::Unreachable("connection refused".to_owned()),
        "broken" => CallFailure::Broken("connection reset".to_owned()),
        "nonsense" => CallFailure::BadAnswer("not HTTP".to_owned()),
        "slow" => CallFailure::Timeout,
        "unsendable" => CallFailure::BadRequest("header field".to_owned()),
        other => return Err(format!("no such failure: {other}").into()),
    }))
}

impl Script {
    fn new() -> Self {
        Self { machine: Outcalls::new(Limits::default(), 1), now: Duration::ZERO }
    }

    fn execute(&mut self, command: &Command) -> Result<String, Failure> {
        let mut args = command.consume_args();
        let mut text = String::new();
        let input = match command.name.as_str() {
            "machine" => {
                *self = Self { machine: Outcalls::new(limits(&mut args)?, 1), now: Duration::ZERO };
                None
            }
            "at" => {
                let until = MS * number(args.next_pos())?;
                while let Some(due) = self.machine.next_deadline().filter(|due| *due <= until) {
                    self.now = due.max(self.now);
                    text += &self.step(Input::Tick);
                }
                self.now = until;
                None
            }
            "late" => {
                self.now = MS * number(args.next_pos())?;
                None
            }
            "start" => {
                let id = CallId(number(args.next_pos())?);
                Some(Input::Start { id, call: parse_call(&mut args)? })
            }
            "answer" => {
                let attempt = AttemptId(number(args.next_pos())?);
                let status = number(args.next_pos())?;
                let body = args.next_pos().unwrap_or_default().to_owned().into();
                let result = AttemptResult::Answered { status, message: String::new(), body };
                Some(Input::AttemptDone { attempt, result })
            }
            "fail" => {
                let attempt = AttemptId(number(args.next_pos())?);
                Some(Input::AttemptDone { attempt, result: failure(args.next_pos())? })
            }
            "cancel" => Some(Input::Cancel { id: CallId(number(args.next_pos())?) }),
            "tick" => Some(Input::Tick),
            "figures" => {
                text = self.figures();
                None
            }
            other => return Err(format!("no such command: {other}").into()),
        };
        args.reject_next()?;
        text += &input.map_or_else(String::new, |input| self.step(input));
        Ok(text)
    }

    fn step(&mut self, input: Input) -> String {
        let mut out = Vec::new();
        self.machine.step(self.now, input, &mut out);
        self.machine.invariants();
        let mut text = String::new();
        for output in &out {
            writeln!(text, "{:>4} ms: {}", self.now.as_millis(), print(output)).expect("a string");
        }
        text
    }

    fn figures(&self) -> String {
        let figures = self.machine.figures();
        let mut text = format!(
            "{} calls, {} bytes, {} attempts, {} overloaded\n",
            figures.calls, figures.bytes, figures.attempts, figures.overloaded
        );
        for of in figures.destinations {
            writeln!(
                text,
                "{}: {:?}, {} running, {} waiting; so far {} attempts, {} failures, {} suspensions, {} refused",
                of.destination,
                of.breaker,
                of.running,
                of.waiting,
                of.attempts,
                of.failures,
                of.suspensions,
                of.refused
            )
            .expect("a string");
        }
        text
    }
}

fn print(output: &Output) -> String {
    match output {
        Output::Attempt { attempt, call, address, timeout } => {
            let timeout = timeout.as_millis();
            format!("attempt {} of {} at address {address}, {timeout} ms", attempt.0, call.url)
        }
        Output::AbortAttempt { attempt } => format!("abort attempt {}", attempt.0),
        Output::Done { id, result } => format!("call {} done: {}", id.0, print_result(result)),
    }
}

fn print_result(result: &CallResult) -> String {
    let (what, latency, attempts) = match result {
        CallResult::Answered { status, body, latency, attempts, .. } => {
            (format!("{status} {}", String::from_utf8_lossy(body)), latency, attempts)
        }
        CallResult::Failed { why, latency, attempts } => (why.to_string(), latency, attempts),
    };
    format!("{} ({} ms, attempts: {attempts})", what.trim(), latency.as_millis())
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Result<String, Failure> {
        self.execute(command)
    }
}

macro_rules! scripts {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                let path = concat!("testscripts/", stringify!($name));
                goldenscript::run(&mut Script::new(), path).expect("the script can be read");
            }
        )*
    };
}

scripts! {
    one_call
    bad_requests
    a_turn_each
    time_is_over
    another_address
    pauses_grow
    suspension
    probe_that_says_nothing
    cancelled
    short_grant_is_no_evidence
    bounds
}

#[test]
fn every_script_runs() {
    let files = std::fs::read_dir("testscripts").expect("the folder of the scripts");
    let names = files.map(|file| file.expect("a file").file_name().into_string().expect("a name"));
    let mut names: Vec<_> = names.collect();
    names.sort();
    let mut run = NAMES.to_vec();
    run.sort_unstable();
    assert_eq!(names, run);
}
