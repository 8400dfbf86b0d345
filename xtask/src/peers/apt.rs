//! Packages of Debian sid, downloaded by the machine's own apt and unpacked beside the system.
//!
//! A private root holds lists, cache and an empty status file; the sources are the machine's own
//! with the suite changed. Nothing of the system is written.

use crate::sh;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The suite whose packages are wanted.
const SUITE: &str = "sid";
/// Where apt keeps its sources.
const SOURCES: &str = "/etc/apt";

/// A private apt that sees sid.
pub(super) struct Sid {
    dir: PathBuf,
    sources: PathBuf,
}

impl Sid {
    /// Sets it up in `dir` and reads the lists.
    pub(super) fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("lists/partial"))?;
        fs::create_dir_all(dir.join("cache/archives/partial"))?;
        fs::write(dir.join("status"), "")?;
        let release = fs::read_to_string("/etc/os-release").context("what system is this?")?;
        let codename = debian_codename(&release).context("this is not Debian")?;
        let (text, extension) = sources(&codename)?;
        let sources = dir.join(format!("sid.{extension}"));
        fs::write(&sources, text)?;
        let apt = Self { dir: dir.to_owned(), sources };
        sh::output(apt.command().args(["-o", "Acquire::Languages=none", "update"]))?;
        Ok(apt)
    }

    /// Downloads a package and unpacks it. Returns the root of its tree.
    pub(super) fn unpack(&self, package: &str) -> Result<PathBuf> {
        sh::output(self.command().args(["download", package]))?;
        let archive = self.archive(package)?;
        let tree = self.dir.join(package);
        sh::output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&tree))?;
        fs::remove_file(archive)?;
        Ok(tree)
    }

    fn archive(&self, package: &str) -> Result<PathBuf> {
        let prefix = format!("{package}_");
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(&prefix) && name.ends_with(".deb") {
                return Ok(path);
            }
        }
        bail!("apt left no archive of {package}")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        let state = self.dir.display();
        for option in [
            format!("Dir::Etc::sourcelist={}", self.sources.display()),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State={state}"),
            format!("Dir::State::status={state}/status"),
            format!("Dir::Cache={state}/cache"),
            // The user _apt may not be able to read this tree.
            "APT::Sandbox::User=root".to_owned(),
            // apt's answer to a missing Packages file is a warning and the exit code 0.
            "APT::Update::Error-Mode=any".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.arg("-qq").current_dir(&self.dir);
        command
    }
}

/// The codename of a Debian system; nothing on any other.
fn debian_codename(release: &str) -> Option<String> {
    let field = |name: &str| {
        let value = release.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
        value.map(|v| v.trim_matches('"').to_owned())
    };
    field("ID").filter(|id| id == "debian")?;
    field("VERSION_CODENAME")
}

/// The machine's sources with the suite changed, and the extension that their format needs.
fn sources(codename: &str) -> Result<(String, &'static str)> {
    let parts = Path::new(SOURCES).join("sources.list.d");
    let mut files = vec![Path::new(SOURCES).join("sources.list")];
    if let Ok(entries) = fs::read_dir(parts) {
        files.extend(entries.filter_map(|e| Some(e.ok()?.path())));
    }
    files.sort();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let found = match file.extension().and_then(|e| e.to_str()) {
            Some("sources") => (stanzas(&text, codename), "sources"),
            Some("list") => (lines(&text, codename), "list"),
            _ => continue,
        };
        if !found.0.is_empty() {
            return Ok(found);
        }
    }
    bail!("apt has no source for {codename} that could be asked for {SUITE}")
}

/// The first paragraph of a deb822 file that offers binaries of `codename`, for sid.
fn stanzas(text: &str, codename: &str) -> String {
    let offers = |stanza: &&str| {
        let words = |name: &str| {
            let value = stanza.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
            value.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        words("Suites:").iter().any(|s| s == codename) && words("Types:").iter().any(|t| t == "deb")
    };
    let Some(stanza) = text.split("\n\n").find(offers) else { return String::new() };
    let changed = stanza.lines().filter(|l| !l.starts_with('#')).map(|l| match l {
        l if l.starts_with("Suites:") => format!("Suites: {SUITE}\n"),
        l if l.starts_with("Types:") => "Types: deb\n".to_owned(),
        l => format!("{l}\n"),
    });
    changed.collect()
}

/// The first line of an old-style file that offers binaries of `codename`, for sid.
fn lines(text: &str, codename: &str) -> String {
    let offers = |line: &&str| {
        line.starts_with("deb ") && line.split_whitespace().any(|word| word == codename)
    };
    let Some(line) = text.lines().find(offers) else { return String::new() };
    let words = line.split_whitespace().map(|w| if w == codename { SUITE } else { w });
    format!("{}\n", words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_of_a_deb822_source_is_changed() {
        let text = "Types: deb\nURIs: http://mirror/security\nSuites: here-security\n\n# a note\n\
                    Types: deb deb-src\nURIs: http://mirror/debian\nSuites: here here-updates\n\
                    Components: main\nSigned-By: /key\n";
        let sid = "Types: deb\nURIs: http://mirror/debian\nSuites: sid\nComponents: main\n\
                   Signed-By: /key\n";
        assert_eq!(stanzas(text, "here"), sid);
        assert_eq!(stanzas(text, "elsewhere"), "");
    }

    #[test]
    fn the_suite_of_a_one_line_source_is_changed() {
        let text = "# deb x here main\ndeb [signed-by=/key] http://mirror/debian here main\n";
        assert_eq!(lines(text, "here"), "deb [signed-by=/key] http://mirror/debian sid main\n");
        assert_eq!(lines(text, "elsewhere"), "");
    }

    #[test]
    fn only_debian_has_sid() {
        let release = |id: &str| format!("VERSION_CODENAME=\"here\"\nID={id}\n");
        assert_eq!(debian_codename(&release("debian")), Some("here".to_owned()));
        assert_eq!(debian_codename(&release("other")), None);
    }
}
