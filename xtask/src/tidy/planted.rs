//! Bugs on purpose belong to the simulator: no other crate turns the feature `planted` on, and no
//! crate has it on by default.

use super::{Finding, Source};

const FEATURE: &str = "planted";
/// The crate that plants.
const OWNER: &str = "sim";

/// Looks at one manifest.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let folder = source.path.parent().unwrap_or(&source.path);
    if !source.path.ends_with("Cargo.toml") || folder == OWNER {
        return Vec::new();
    }
    let named = source.text.lines().enumerate().filter(|(_, line)| line.contains(FEATURE));
    let wrong = named.filter(|(_, line)| !is_definition(line));
    wrong.map(|(i, _)| source.finding(i + 1, "only sim may turn bugs on purpose on")).collect()
}

/// `planted = [...]`, which may pass it on to another crate's `planted`.
fn is_definition(line: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default();
    line.trim_end().is_empty() || line.starts_with(&format!("{FEATURE} = ["))
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&source(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn only_the_simulator_turns_it_on() {
        let on = "quorate-wal = { workspace = true, features = [\"planted\"] }\n";
        assert_eq!(lines("sim/Cargo.toml", on), []);
        assert_eq!(lines("shell/server/Cargo.toml", on), [1]);
        assert_eq!(lines("Cargo.toml", on), [1]);
    }

    #[test]
    fn it_may_be_defined_but_is_no_default() {
        let text =
            "[features]\nplanted = [\"quorate-wal/planted\"] # why\ndefault = [\"planted\"]\n";
        assert_eq!(lines("core/node/Cargo.toml", text), [3]);
    }
}
