//! Which programs there are to test and to test with.
//!
//! The server is `QUORATE_E2E_SERVER`, else the `quorate` of this workspace, built on first use in the
//! profile of the tests. Tools come from `QUORATE_E2E_PEERS`, else `e2e/.peers` (filled by `cargo xtask
//! peers`), else PATH. What is not there is named as skipped.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// Whose server is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// etcd, to check the suites themselves.
    Etcd,
    /// Ours.
    Quorate,
}

/// The server under test.
#[derive(Clone, Debug)]
pub struct Binary {
    /// The executable.
    pub path: PathBuf,
    /// Whose it is.
    pub kind: Kind,
}

/// Says that a suite could not run here, in the line that `xtask` collects.
pub fn skip(name: &str, reason: impl Display) {
    // Not println!: the test harness would swallow it. It may be in the middle of a line of its own.
    let line = format!("\nskipped: {name}: {reason}\n");
    if let Err(error) = std::io::stdout().write_all(line.as_bytes()) {
        eprintln!("{line}(standard output: {error})");
    }
}

/// True, and says so, if the server is etcd: `reason` is what etcd does otherwise.
///
/// # Errors
/// If there is no server to test.
pub fn skip_for_etcd(name: &str, reason: &str) -> Result<bool> {
    let etcd = binary()?.kind == Kind::Etcd;
    if etcd {
        skip(name, format!("the server is etcd, {reason}"));
    }
    Ok(etcd)
}

/// The server under test; found, and if it is ours built, once.
///
/// # Errors
/// If it cannot be built or does not tell its version.
pub fn binary() -> Result<&'static Binary> {
    static BINARY: OnceLock<Result<Binary, String>> = OnceLock::new();
    let found = BINARY.get_or_init(|| find_binary().map_err(|error| format!("{error:#}")));
    found.as_ref().map_err(|error| anyhow::anyhow!("no server to test: {error}"))
}

fn find_binary() -> Result<Binary> {
    let path = match std::env::var_os("QUORATE_E2E_SERVER") {
        Some(path) => PathBuf::from(path),
        None => build_ours()?,
    };
    let version = Command::new(&path)
        .arg("--version")
        .output()
        .with_context(|| format!("{} --version", path.display()))?;
    let text = String::from_utf8_lossy(&version.stdout).to_lowercase();
    let kind = if text.starts_with("etcd version") { Kind::Etcd } else { Kind::Quorate };
    Ok(Binary { path, kind })
}

/// Builds `quorate` where cargo put this test: `target/PROFILE/deps/it-HASH`.
fn build_ours() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("no target directory")?;
    let target = folder.parent().context("no target directory")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => bail!("{} is not below a target directory", test.display()),
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "quorate-server", "--profile", profile])
        .arg("--target-dir")
        .arg(target)
        .current_dir(workspace())
        .output()?;
    if !built.status.success() {
        bail!("quorate does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(folder.join("quorate"))
}

/// The root of this repository.
#[must_use]
pub fn workspace() -> &'static Path {
    own().parent().expect("e2e lies below the root")
}

/// `e2e` in this repository. Cargo says at run time whose test it runs; what was compiled in is for a test that is run
/// by hand only, since clones in several places may share a target directory.
#[must_use]
pub fn own() -> &'static Path {
    static OWN: OnceLock<PathBuf> = OnceLock::new();
    OWN.get_or_init(|| {
        let said = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let own = said.filter(|own| own.ends_with("e2e"));
        own.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
    })
}

/// etcd's command line client.
#[must_use]
pub fn etcdctl() -> Option<PathBuf> {
    peer("etcdctl").or_else(|| on_path("etcdctl"))
}

/// A Python that can import `aetcd` and `grpc`, which the probe needs.
#[must_use]
pub fn python() -> Option<PathBuf> {
    python_with("aetcd, grpc")
}

/// A Python that can import these modules.
#[must_use]
pub fn python_with(modules: &str) -> Option<PathBuf> {
    let own = std::env::var_os("QUORATE_E2E_PYTHON").map(PathBuf::from);
    let candidates = [own, peer("python"), peer("python3"), on_path("python3")];
    let import = format!("import {modules}");
    candidates.into_iter().flatten().find(|python| {
        let imported = Command::new(python).args(["-c", &import]).output();
        imported.is_ok_and(|output| output.status.success())
    })
}

/// The program `name` on PATH.
#[must_use]
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Runs a program of the system and gives its output.
///
/// # Errors
/// If it cannot be started or fails; with what it said.
pub fn run(program: &str, args: &[&str]) -> Result<Output> {
    let output = Command::new(program).args(args).output().with_context(|| program.to_owned())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("{program} {}: {said}", args.join(" "));
    }
    Ok(output)
}

/// Where programs to test with are kept.
#[must_use]
pub fn peers() -> PathBuf {
    let folder = std::env::var_os("QUORATE_E2E_PEERS").map(PathBuf::from);
    folder.unwrap_or_else(|| own().join(".peers"))
}

fn peer(name: &str) -> Option<PathBuf> {
    find(&peers(), name, 4)
}

/// The first file `bin/NAME` at most `depth` folders below, in the order of names.
fn find(folder: &Path, name: &str, depth: usize) -> Option<PathBuf> {
    let here = folder.join("bin").join(name);
    if here.is_file() {
        return Some(here);
    }
    let mut inner: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir() && !path.is_symlink())
        .collect();
    inner.sort();
    if depth == 0 {
        return None;
    }
    inner.iter().find_map(|path| find(path, name, depth - 1))
}
