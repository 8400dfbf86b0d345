//! The programs in `e2e/go`: DTM's Go client, built once into `e2e/.peers`.
//!
//! Nothing outside of the tree is written: Go's caches lie there too. Modules come from wherever the machine's own
//! configuration of Go says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::tools::{on_path, peers, workspace};

/// Why there is no program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// This machine lacks something: the suite cannot run here.
    Here(String),
    /// The program is wrong: the suite fails.
    Broken(String),
}

/// The program, built on first use.
///
/// # Errors
/// See [`Missing`].
pub fn dtm_client() -> Result<PathBuf, Missing> {
    static BUILT: OnceLock<Result<PathBuf, Missing>> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> Result<PathBuf, Missing> {
    let Some(go) = on_path("go") else {
        return Err(Missing::Here("there is no go on PATH".to_owned()));
    };
    let folder = peers().join("go");
    // What it is made of has to be there before it can be wrong; this fetches no more than is needed.
    run(&go, &folder, &["list", "-deps", "."])
        .map_err(|error| Missing::Here(format!("{error:#}")))?;
    let program = peers().join("dtm-go/bin/dtm-go");
    let to = program.to_string_lossy();
    run(&go, &folder, &["build", "-o", &to, "."])
        .map_err(|error| Missing::Broken(format!("{error:#}")))?;
    Ok(program)
}

fn run(go: &Path, folder: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(go);
    command
        .args(arguments)
        .current_dir(workspace().join("e2e/go"))
        .env("GOPATH", folder)
        .env("GOCACHE", folder.join("cache"))
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=false");
    let output = command.output().context("go")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("go {}: {}", arguments.join(" "), said.lines().next_back().unwrap_or_default());
    }
    Ok(())
}
