//! What must not stand in the tree: hosts of package registries and paths of one machine. Where
//! packages come from is the business of each machine's own configuration.

use super::{Finding, Source};

/// Parts of words, put together here so that this file does not find itself.
const HOSTS: [&str; 8] = [
    concat!("crates", ".io/"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("deb.", "debian.org"),
    concat!("registry.", "npmjs.org"),
    concat!("proxy.", "golang.org"),
];

/// Roots of paths that exist on one machine only. A path of every Linux (`/tmp`, `/etc`, `/proc`) is
/// none of them.
const ROOTS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// cargo writes its own registry into the lock file.
const EXEMPT: &str = "Cargo.lock";

/// Looks at one file.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    if source.path.ends_with(EXEMPT) {
        return Vec::new();
    }
    let numbered = source.text.lines().enumerate();
    numbered.filter_map(|(i, line)| Some(source.finding(i + 1, fault(line)?))).collect()
}

fn fault(line: &str) -> Option<String> {
    if let Some(host) = HOSTS.iter().find(|h| line.contains(*h)) {
        return Some(format!("names a registry's host: {host}"));
    }
    let root = ROOTS.iter().find(|r| starts_a_word(line, r))?;
    Some(format!("holds a path of one machine: {root}"))
}

/// Whether the root stands at the start of a path: `docs` + root is a part of a relative one.
fn starts_a_word(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before
            .is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '/' | '}' | '*'))
    })
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn hosts_and_paths_are_found_with_their_line() {
        let text = format!("fine\nsee https://{}/x\n\"{}a\"\n", HOSTS[3], ROOTS[0]);
        let lines: Vec<_> = check(&source("a.toml", &text)).iter().map(|f| f.line).collect();
        assert_eq!(lines, [2, 3]);
    }

    #[test]
    fn relative_paths_are_no_fault() {
        let text = format!("net{} ..{} */{}", ROOTS[0], ROOTS[0], &ROOTS[0][1..]);
        assert_eq!(check(&source("a.md", &text)), []);
        assert_eq!(check(&source("Cargo.lock", HOSTS[0])), []);
    }
}
