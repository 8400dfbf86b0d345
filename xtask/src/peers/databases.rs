//! The databases that branches keep their data in: PostgreSQL, MariaDB and Redis of the machine's own release.
//!
//! What is installed is used. What is not is downloaded with the libraries that this machine lacks, and unpacked
//! into `NAME/` as a tree of its own; whoever starts a server from there names the libraries in `LD_LIBRARY_PATH`
//! ([`libraries`]). apt decides what is lacking, as for an installation, and only downloads.

use crate::sh;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A database server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Database {
    /// Its directory among the peers.
    name: &'static str,
    /// The package that holds it.
    package: &'static str,
    /// Where its program lies, below `/` or below its directory; `*` is any one name.
    program: &'static str,
}

/// PostgreSQL, with `initdb` beside it.
pub(super) const POSTGRES: Database = Database {
    name: "postgres",
    package: "postgresql",
    program: "usr/lib/postgresql/*/bin/postgres",
};
/// MariaDB, with its system tables as SQL.
pub(super) const MARIADB: Database =
    Database { name: "mariadb", package: "mariadb-server-core", program: "usr/sbin/mariadbd" };
/// Redis.
pub(super) const REDIS: Database =
    Database { name: "redis", package: "redis-server", program: "usr/bin/redis-server" };

impl Database {
    /// Its program: installed, or fetched before, or fetched now.
    pub(super) fn get(self, peers: &Path) -> Result<PathBuf> {
        let own = peers.join(self.name);
        for root in [Path::new("/"), &own] {
            if let Some(program) = self.works(root) {
                return Ok(program);
            }
        }
        let fetched = peers.join(format!(".{}-fetched", self.name));
        for folder in [&fetched, &own] {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        Apt::new(&peers.join(".apt-own"))?.unpack(self.package, &fetched)?;
        fs::rename(&fetched, &own)?;
        let works = self.works(&own);
        works.with_context(|| format!("{} was fetched and does not run", self.package))
    }

    /// The program below this root, if it runs.
    fn works(self, root: &Path) -> Option<PathBuf> {
        let program = matching(root, self.program).pop()?;
        let mut command = Command::new(&program);
        command.arg("--version").env("LD_LIBRARY_PATH", libraries(root));
        sh::output(&mut command).ok()?;
        Some(program)
    }
}

/// The directories of an unpacked tree's libraries, for `LD_LIBRARY_PATH`.
fn libraries(root: &Path) -> String {
    if root == Path::new("/") {
        return String::new();
    }
    let folders = ["usr/lib/*-linux-gnu", "lib/*-linux-gnu"];
    let found = folders.iter().flat_map(|folder| matching(root, folder));
    found.map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(":")
}

/// What lies below `root` under this path, in the order of names; a part with `*` stands for every name that begins
/// and ends so.
fn matching(root: &Path, path: &str) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    for part in path.split('/') {
        found = found.iter().flat_map(|folder| children(folder, part)).collect();
    }
    found
}

fn children(folder: &Path, part: &str) -> Vec<PathBuf> {
    let Some((start, end)) = part.split_once('*') else {
        let child = folder.join(part);
        return if child.exists() { vec![child] } else { Vec::new() };
    };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let fits = |name: &str| name.starts_with(start) && name.ends_with(end);
    let names = entries.flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = names
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(fits))
        .collect();
    found.sort();
    found
}

/// apt with lists and cache of its own, which sees what the machine has installed.
struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// Sets it up in `dir` and reads the lists.
    fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("lists/partial"))?;
        fs::create_dir_all(dir.join("cache/archives/partial"))?;
        let apt = Self { dir: dir.to_owned() };
        sh::output(apt.command().args(["-o", "Acquire::Languages=none", "update"]))?;
        Ok(apt)
    }

    /// Downloads a package and what it needs and the machine lacks, and unpacks all of it into `tree`.
    fn unpack(&self, package: &str, tree: &Path) -> Result<()> {
        let archives = self.dir.join("cache/archives");
        for old in matching(&archives, "*.deb") {
            fs::remove_file(old)?;
        }
        let options = ["install", "--yes", "--no-install-recommends", "--download-only"];
        sh::output(self.command().args(options).arg(package))?;
        for archive in matching(&archives, "*.deb") {
            sh::output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(tree))?;
            fs::remove_file(archive)?;
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        let dir = self.dir.display();
        for option in [
            format!("Dir::State::lists={dir}/lists"),
            format!("Dir::Cache={dir}/cache"),
            // Nothing of the system is written, so nobody has to be kept out.
            "Debug::NoLocking=true".to_owned(),
            // The user _apt may not be able to read this tree.
            "APT::Sandbox::User=root".to_owned(),
            "APT::Update::Error-Mode=any".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.arg("-qq").current_dir(&self.dir);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_a_name() {
        let root = std::env::temp_dir().join(format!("xtask-star-{}", std::process::id()));
        for folder in ["lib/b-linux-gnu", "lib/a-linux-gnu", "lib/other"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let found = matching(&root, "lib/*-linux-gnu");
        assert_eq!(found, [root.join("lib/a-linux-gnu"), root.join("lib/b-linux-gnu")]);
        assert!(matching(&root, "nothing/*").is_empty());
        assert_eq!(libraries(&root).matches("-linux-gnu").count(), 2);
        fs::remove_dir_all(root).unwrap();
    }
}
