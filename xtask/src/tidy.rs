//! `tidy`: the rules of the house that are code.
//!
//! Each rule is a file that looks at the tree and gives what it found; nothing is edited. A rule
//! that is not here is a habit, not a rule: when a review finds the same thing twice, it comes here.

mod deps;
mod files;
mod links;
mod planted;
mod words;

use crate::sh;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Something that a rule found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// The file, from the root.
    path: PathBuf,
    /// The line, from 1; 0 for the file as a whole.
    line: usize,
    /// What is wrong.
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.what)
    }
}

/// A file of the tree that holds text.
#[derive(Debug, Clone)]
struct Source {
    /// From the root.
    path: PathBuf,
    text: String,
}

impl Source {
    fn is(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|e| e == extension)
    }

    fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }
}

/// Applies every rule to every file that belongs to the project.
pub(crate) fn run() -> Result<()> {
    let root = sh::root();
    let sources = sources(&root)?;
    let mut findings = Vec::new();
    for source in &sources {
        findings.extend(files::check(source));
        findings.extend(words::check(source));
        findings.extend(links::check(source, &root));
        findings.extend(deps::check(source)?);
        findings.extend(planted::check(source));
    }
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings in {} files", findings.len(), sources.len());
    }
    println!("tidy: {} files, nothing found", sources.len());
    Ok(())
}

/// Every text file that git knows or would add.
fn sources(root: &Path) -> Result<Vec<Source>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let list = sh::output(std::process::Command::new("git").args(list).current_dir(root));
    let list = list.context("tidy asks git which files there are")?;
    let mut sources = Vec::new();
    for path in list.split('\0').filter(|p| !p.is_empty()).map(PathBuf::from) {
        // Deleted and not yet committed, or not text: nothing to look at.
        if let Ok(text) = fs::read_to_string(root.join(&path)) {
            sources.push(Source { path, text });
        }
    }
    Ok(sources)
}

#[cfg(test)]
fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_can_be_clicked() {
        let finding = source("core/a.rs", "").finding(7, "wrong");
        assert_eq!(finding.to_string(), "core/a.rs:7: wrong");
    }
}
