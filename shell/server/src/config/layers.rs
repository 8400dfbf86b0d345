//! Where settings come from: flag before environment before file. Each value remembers its source, so
//! that an error names what the user wrote.

use std::collections::BTreeMap;
use std::fmt;

use super::flags::{self, FLAGS, Known};
use crate::exit::Fatal;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// On the command line.
    Flag(&'static str),
    /// In the environment.
    Env(String),
    /// In the file, under this key.
    File(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Env(variable) => write!(f, "environment variable {variable}"),
            Self::File(key) => write!(f, "key {key} of the configuration file"),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The text.
    pub value: String,
    /// Its origin.
    pub source: Source,
}

/// Everything that was set, strongest source first.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    settings: BTreeMap<&'static str, Setting>,
    /// etcd's flags (and unknown variables) that have no effect, as the user wrote them.
    pub ignored: Vec<String>,
}

impl Layers {
    /// The strongest value of a flag.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Setting> {
        debug_assert!(FLAGS.iter().any(|flag| flag.name == name), "{name} is not in the table");
        self.settings.get(name)
    }

    /// Reads a command line.
    ///
    /// # Errors
    /// `Usage` for unknown, refused or incomplete flags.
    pub fn add_flags(&mut self, args: &[String]) -> Result<(), Fatal> {
        let mut line = BTreeMap::new();
        for given in flags::split(args)? {
            let name = given.name;
            let Known::Ours(own) = lookup(&name) else {
                let written = format!("--{name}");
                let value = given.value.unwrap_or_else(|| "true".to_owned());
                self.foreign(&name, &value, &written, true)?;
                continue;
            };
            let switched_on = flags::is_switch(own).then(|| "true".to_owned());
            let Some(value) = given.value.or(switched_on) else {
                return Err(Fatal::Usage(format!("--{name} needs a value")));
            };
            // The last of two equal flags wins, as with etcd.
            line.insert(own, Setting { value, source: Source::Flag(own) });
        }
        self.merge(line);
        Ok(())
    }

    /// Reads environment variables with this prefix.
    ///
    /// # Errors
    /// `Usage` for refused ones.
    pub fn add_env(
        &mut self,
        prefix: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), Fatal> {
        let mut layer = BTreeMap::new();
        for (variable, value) in variables {
            let Some(name) = flags::from_env_name(prefix, &variable) else { continue };
            match lookup(&name) {
                Known::Ours(own) => {
                    let source = Source::Env(variable);
                    layer.insert(own, Setting { value, source });
                }
                _ => self.foreign(&name, &value, &variable, false)?,
            }
        }
        self.merge(layer);
        Ok(())
    }

    /// Reads a TOML file's text.
    ///
    /// # Errors
    /// `Usage` for a text that is not TOML, unknown keys or values that are no scalars.
    pub fn add_file(&mut self, path: &str, text: &str) -> Result<(), Fatal> {
        let table: toml::Table =
            text.parse().map_err(|error| Fatal::Usage(format!("{path}: {}", one_line(&error))))?;
        let mut layer = BTreeMap::new();
        for (key, value) in table {
            let name = key.replace('_', "-");
            let Some(value) = scalar(&value) else {
                return Err(Fatal::Usage(format!(
                    "{path}: {key} must be a single value or a list"
                )));
            };
            match lookup(&name) {
                Known::Ours("config" | "nodes") | Known::Unknown => {
                    return Err(Fatal::Usage(format!("{path}: unknown key '{key}'")));
                }
                Known::Ours(own) => {
                    layer.insert(own, Setting { value, source: Source::File(key) });
                }
                _ => self.foreign(&name, &value, &key, true)?,
            }
        }
        self.merge(layer);
        Ok(())
    }

    /// What was set before is stronger.
    fn merge(&mut self, weaker: BTreeMap<&'static str, Setting>) {
        for (name, setting) in weaker {
            self.settings.entry(name).or_insert(setting);
        }
    }

    /// A name that is not ours: refused, noted, or unknown.
    fn foreign(
        &mut self,
        name: &str,
        value: &str,
        written: &str,
        strict: bool,
    ) -> Result<(), Fatal> {
        match lookup(name) {
            Known::Security if !asks_for_nothing(value) => Err(Fatal::Usage(format!(
                "{written} asks for TLS or authentication, which this version does not have yet; \
                 it will not serve openly where a closed server was asked for"
            ))),
            Known::Unsupported if !asks_for_nothing(value) => Err(Fatal::Usage(format!(
                "{written} is not supported, and leaving it out would change what is started"
            ))),
            Known::Unknown if strict => {
                Err(Fatal::Usage(format!("unknown flag {written}; see quorate --help")))
            }
            _ => {
                self.ignored.push(written.to_owned());
                Ok(())
            }
        }
    }
}

use flags::lookup;

fn asks_for_nothing(value: &str) -> bool {
    value.is_empty() || value == "false"
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            Some(items.iter().map(scalar).collect::<Option<Vec<_>>>()?.join(","))
        }
        _ => None,
    }
}

fn one_line(error: &toml::de::Error) -> String {
    error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
