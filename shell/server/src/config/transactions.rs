//! Settings of global transactions and of the calls that they make.
//!
//! Durations are Go's (`35s`, `1h30m`), or bare numbers of seconds as in DTM's configuration.

use std::path::PathBuf;
use std::time::Duration;

use quorate_global_txn::limits::MIN_RETENTION_MS;
use quorate_outcall::limits::{Limits, MAX_URL};
use quorate_outcall::{Method, Target, Wire};

use super::flags::FLAGS;
use super::layers::{Layers, Setting};
use super::{count, not_one_of, values};
use crate::exit::Fatal;
use crate::outcall::Options;

/// DTM's sign that it runs in a container, whose own `localhost` nobody means.
const IS_DOCKER: &str = "IS_DOCKER";

/// Longest time that a call may be given.
const LONGEST_CALL: Duration = Duration::from_secs(600);

/// Longest timeout, pause or retention: a year.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Shortest pause between two tries: below, an error would be a busy loop.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    /// The machine's configuration.
    pub global_txn: quorate_global_txn::Config,
    /// Bounds of calls.
    pub limits: Limits,
    /// How calls are made.
    pub calls: Options,
    /// What was set, as flags: for processes that are to have the same settings.
    pub given: Vec<String>,
}

/// Reads them. `env` is looked at for `IS_DOCKER` alone.
pub(super) fn read(
    layers: &Layers,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Transactions, Fatal> {
    let defaults = Limits::default();
    let limits = Limits {
        attempts: calls(layers, "branch-calls", defaults.attempts)?,
        attempts_per_destination: calls(
            layers,
            "branch-calls-per-destination",
            defaults.attempts_per_destination,
        )?,
        failures: small(layers, "branch-breaker-failures", defaults.failures)?,
        suspension: time(layers, "branch-breaker-pause", defaults.suspension, SHORTEST_PAUSE)?,
        ..defaults
    };
    let limits =
        Limits { longest_suspension: limits.longest_suspension.max(limits.suspension), ..limits };
    if limits.attempts_per_destination > limits.attempts {
        let text = "branch-calls-per-destination must not be above branch-calls";
        return Err(Fatal::Usage(text.to_owned()));
    }
    let calls = Options {
        ca_file: layers.get("branch-ca-file").map(|setting| PathBuf::from(&setting.value)),
        localhost_is_docker_host: env.into_iter().any(|(n, v)| n == IS_DOCKER && !v.is_empty()),
    };
    Ok(Transactions { global_txn: global_txn(layers)?, limits, calls, given: given(layers) })
}

fn given(layers: &Layers) -> Vec<String> {
    let names = FLAGS.iter().map(|flag| flag.name);
    let ours = names.filter(|name| name.starts_with("dtm-") || name.starts_with("branch-"));
    let set = ours.filter_map(|name| Some((name, layers.get(name)?)));
    set.map(|(name, setting)| format!("--{name}={}", setting.value)).collect()
}

fn global_txn(layers: &Layers) -> Result<quorate_global_txn::Config, Fatal> {
    let defaults = quorate_global_txn::Config::default();
    let tick = Duration::from_millis(1);
    let ms = |name, default_ms, least| {
        time(layers, name, Duration::from_millis(default_ms), least).map(millis)
    };
    let config = quorate_global_txn::Config {
        timeout_ms: ms("dtm-timeout-to-fail", defaults.timeout_ms, tick)?,
        retry_interval_ms: ms("dtm-retry-interval", defaults.retry_interval_ms, SHORTEST_PAUSE)?,
        request_timeout_ms: ms("dtm-request-timeout", defaults.request_timeout_ms, tick)?,
        max_backoff_ms: ms("dtm-max-backoff", defaults.max_backoff_ms, SHORTEST_PAUSE)?,
        retention_ms: ms(
            "dtm-retention",
            defaults.retention_ms,
            Duration::from_millis(MIN_RETENTION_MS),
        )?,
        strict: truth(layers, "dtm-strict")?,
        alert_after: small(layers, "dtm-alert-after", defaults.alert_after)?,
        alert_url: alert_url(layers)?,
        ..defaults
    };
    let longest_ms = millis(LONGEST_CALL);
    if config.request_timeout_ms > longest_ms {
        return Err(refused(layers, "dtm-request-timeout", "a time of at most 10m"));
    }
    if config.max_backoff_ms < config.retry_interval_ms {
        let text = "dtm-max-backoff must not be shorter than dtm-retry-interval";
        return Err(Fatal::Usage(text.to_owned()));
    }
    Ok(config)
}

fn refused(layers: &Layers, name: &str, wanted: &str) -> Fatal {
    match layers.get(name) {
        Some(setting) => not_one_of(setting, wanted),
        None => Fatal::Usage(format!("{name} is not {wanted}")),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("at most a year")
}

fn time(
    layers: &Layers,
    name: &str,
    default: Duration,
    least: Duration,
) -> Result<Duration, Fatal> {
    let Some(setting) = layers.get(name) else { return Ok(default) };
    let text = setting.value.trim();
    let seconds = text.parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()));
    seconds
        .or_else(|| values::duration(text))
        .filter(|time| (least..=LONGEST).contains(time))
        .ok_or_else(|| {
            not_one_of(setting, &format!("a duration like 35s, at least {least:?}, at most a year"))
        })
}

fn calls(layers: &Layers, name: &str, default: usize) -> Result<usize, Fatal> {
    let default = i64::try_from(default).expect("small");
    count(layers, name, default, 1, 65_536, "calls at a time")
}

fn small(layers: &Layers, name: &str, default: u32) -> Result<u32, Fatal> {
    let number = count(layers, name, default.into(), 1, 1_000_000, "failures")?;
    Ok(u32::try_from(number).expect("small"))
}

fn truth(layers: &Layers, name: &str) -> Result<bool, Fatal> {
    match layers.get(name) {
        None => Ok(false),
        Some(setting) => match setting.value.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(not_one_of(setting, "true or false")),
        },
    }
}

fn alert_url(layers: &Layers) -> Result<String, Fatal> {
    let Some(setting) = layers.get("dtm-alert-url") else { return Ok(String::new()) };
    let Setting { value, source } = setting;
    if value.is_empty() || value == "none" {
        return Ok(String::new());
    }
    let wire = Wire::Http { method: Method::Post };
    match Target::parse(value, wire) {
        Ok(_) if value.len() <= MAX_URL => Ok(value.clone()),
        Ok(_) => Err(Fatal::Usage(format!("{source}: longer than {MAX_URL} bytes"))),
        Err(why) => Err(Fatal::Usage(format!("{source}: '{value}': {why}"))),
    }
}
