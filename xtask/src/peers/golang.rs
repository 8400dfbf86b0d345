//! DTM's own server, and our programs with DTM's Go client, built from released modules by the machine's Go.
//! Everything that Go writes stays below the directory of the peers.

use crate::sh;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The module that is built, and which release of it.
const DTM: (&str, &str) = ("github.com/dtm-labs/dtm", "v1.19.0");

/// Builds DTM's server to `to`; module and build caches lie in `dir`. Takes minutes.
pub(super) fn dtm(dir: &Path, to: &Path) -> Result<()> {
    // A module that needs the released one: only so does Go build it without asking which releases there are.
    let source = dir.join("dtm/src");
    fs::create_dir_all(&source)?;
    let (module, version) = DTM;
    fs::write(
        source.join("go.mod"),
        format!("module peer\n\ngo 1.22\n\nrequire {module} {version}\n"),
    )?;
    let import = format!("//go:build tools\n\npackage peer\n\nimport _ \"{module}\"\n");
    fs::write(source.join("tools.go"), import)?;
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(to).arg(module).current_dir(source);
    build.env("GOPATH", dir.join("go")).env("GOCACHE", dir.join("go/cache"));
    build.env("GOFLAGS", "-mod=mod -modcacherw -buildvcs=false");
    sh::output(&mut build).with_context(|| format!("{module} {version} cannot be built"))?;
    Ok(())
}

/// Builds the programs of `e2e/go` to `to`, with the same caches.
pub(super) fn client(dir: &Path, to: &Path) -> Result<()> {
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(to).arg(".").current_dir(sh::root().join("e2e/go"));
    build.env("GOPATH", dir.join("go")).env("GOCACHE", dir.join("go/cache"));
    build.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=false");
    sh::output(&mut build).context("the programs of e2e/go cannot be built")?;
    Ok(())
}
