//! `quorate serve`: configuration, log messages, then the server.

use crate::config::{Config, Persona};
use crate::exit::Fatal;
use crate::run;

/// Serves until told to stop.
pub(super) fn serve(persona: Persona, args: &[String]) -> Result<(), Fatal> {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-help" | "-h")) {
        return super::help();
    }
    let config = Config::load(persona, args, utf8_environment())?;
    // A second initialisation can only happen in a test; the first one stays.
    let _already = tracing_subscriber::fmt()
        .with_max_level(config.log_level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .try_init();
    if !config.ignored.is_empty() {
        tracing::warn!("without effect here: {}", config.ignored.join(", "));
    }
    if config.nodes > 1 {
        return super::cluster::run(&config);
    }
    run::run(&config)
}

/// Variables that are not text cannot be settings.
fn utf8_environment() -> impl Iterator<Item = (String, String)> + Clone {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect::<Vec<_>>()
        .into_iter()
}
