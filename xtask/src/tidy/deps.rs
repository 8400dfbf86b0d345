//! The direction of dependencies, as data: which crate may know which, and what core may use from
//! elsewhere. The table is the one of ARCHITECTURE.md; a row is changed there and here together.

use super::{Finding, Source};
use anyhow::Result;
use std::collections::BTreeSet;

/// What a crate may depend on.
struct Allowed {
    /// Its folder.
    folder: &'static str,
    /// Crates of ours, without their prefix.
    ours: &'static [&'static str],
}

const TABLE: [Allowed; 15] = [
    Allowed { folder: "core/rng", ours: &[] },
    Allowed { folder: "core/engine", ours: &["rng"] },
    // docs/decisions/0002-wal-speaks-consensus-types.md
    Allowed { folder: "core/wal", ours: &["consensus"] },
    Allowed { folder: "core/consensus", ours: &["rng"] },
    Allowed { folder: "core/kv", ours: &["rng", "engine"] },
    Allowed { folder: "core/outcall", ours: &["rng"] },
    Allowed { folder: "core/global-txn", ours: &["rng", "kv", "outcall"] },
    Allowed {
        folder: "core/node",
        ours: &["rng", "engine", "wal", "consensus", "kv", "outcall", "global-txn"],
    },
    Allowed { folder: "shell/wire", ours: &[] },
    Allowed { folder: "shell/client", ours: &["wire"] },
    Allowed { folder: "shell/storage", ours: &["engine", "wal", "consensus"] },
    Allowed {
        folder: "shell/server",
        ours: &[
            "rng",
            "engine",
            "wal",
            "consensus",
            "kv",
            "outcall",
            "global-txn",
            "node",
            "storage",
            "wire",
            "client",
        ],
    },
    Allowed {
        folder: "sim",
        ours: &["rng", "engine", "wal", "consensus", "kv", "outcall", "global-txn", "node"],
    },
    Allowed { folder: "bench", ours: &["rng", "wire"] },
    Allowed { folder: "e2e", ours: &["wire"] },
];

/// What crates of core may use beside each other.
const CORE: [&str; 4] = ["bytes", "thiserror", "crc32c", "xxhash-rust"];
const PREFIX: &str = "quorate-";

/// Looks at one manifest of a crate.
pub(super) fn check(source: &Source) -> Result<Vec<Finding>> {
    let folder = source.path.parent().unwrap_or(&source.path);
    if !source.path.ends_with("Cargo.toml") || folder.as_os_str().is_empty() || folder == "xtask" {
        return Ok(Vec::new());
    }
    let Some(allowed) = TABLE.iter().find(|a| folder == a.folder) else {
        let what = "this crate has no row in xtask/src/tidy/deps.rs and ARCHITECTURE.md";
        return Ok(vec![source.finding(0, what)]);
    };
    let core: BTreeSet<&str> = CORE.into();
    let faults = dependencies(&source.text).filter_map(|(line, name)| {
        let what = match name.strip_prefix(PREFIX) {
            Some(own) if !allowed.ours.contains(&own) => format!("may not depend on {name}"),
            None if folder.starts_with("core") && !core.contains(name) => {
                format!("core may not use {name}: it is not on the allow-list")
            }
            _ => return None,
        };
        Some(source.finding(line, what))
    });
    Ok(faults.collect())
}

/// Line and name of each entry of `[dependencies]` and `[build-dependencies]`; tests may use more.
fn dependencies(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(i, line)| {
        if let Some(section) = line.trim().strip_prefix('[') {
            let section = section.split(']').next().unwrap_or_default();
            let last = section.rsplit_once("ependencies.").map(|(_, name)| name);
            let counts = !section.starts_with("dev-");
            inside = counts && section.ends_with("dependencies");
            return last.filter(|_| counts).map(|name| (i + 1, name));
        }
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        let entry = inside && line.contains('=') && !line.starts_with(['#', ' ', '\t']);
        entry.then_some((i + 1, name))
    })
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn whats(path: &str, text: &str) -> Vec<String> {
        check(&source(path, text)).unwrap().into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn core_knows_no_shell_and_no_stranger() {
        let text = "[dependencies]\nbytes = \"1\"\nquorate-wire = { workspace = true }\n\
                    tokio.workspace = true\n\n[dev-dependencies]\ntokio = \"1\"\n";
        let expected = [
            "may not depend on quorate-wire",
            "core may not use tokio: it is not on the allow-list",
        ];
        assert_eq!(whats("core/engine/Cargo.toml", text), expected);
    }

    #[test]
    fn a_section_of_its_own_is_an_entry() {
        let text = "[target.'cfg(unix)'.dependencies]\nlibc = \"0\"\n[dependencies.rand]\nversion = \"1\"\n";
        assert_eq!(whats("core/kv/Cargo.toml", text).len(), 2);
        assert_eq!(whats("shell/wire/Cargo.toml", text).len(), 0);
    }

    #[test]
    fn a_new_crate_needs_a_row() {
        assert_eq!(whats("core/new/Cargo.toml", "").len(), 1);
        assert_eq!(whats("Cargo.toml", "[dependencies]\n").len(), 0);
    }
}
