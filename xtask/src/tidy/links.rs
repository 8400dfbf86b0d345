//! Links of the documents: whatever they point to in this tree is there.

use super::{Finding, Source};
use std::path::Path;

/// Looks at one document.
pub(super) fn check(source: &Source, root: &Path) -> Vec<Finding> {
    if !source.is("md") {
        return Vec::new();
    }
    let folder = root.join(&source.path);
    let folder = folder.parent().unwrap_or(root);
    let mut findings = Vec::new();
    let mut code = false;
    for (i, line) in source.text.lines().enumerate() {
        code ^= line.trim_start().starts_with("```");
        if code {
            continue;
        }
        for target in targets(line) {
            if !resolves(target, folder) {
                findings.push(source.finding(i + 1, format!("the link to {target} leads nowhere")));
            }
        }
    }
    findings
}

/// What stands in `](…)`, outside of code.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let prose = line.split('`').step_by(2);
    prose.flat_map(|text| text.split("](").skip(1).filter_map(|rest| rest.split(')').next()))
}

fn resolves(target: &str, folder: &Path) -> bool {
    let elsewhere = target.contains("://") || target.starts_with("mailto:");
    let path = target.split(['#', ' ']).next().unwrap_or_default();
    elsewhere || path.is_empty() || folder.join(path).exists()
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;
    use crate::sh;

    fn found(text: &str) -> usize {
        check(&source("xtask/a.md", text), &sh::root()).len()
    }

    #[test]
    fn a_link_is_relative_to_its_document() {
        assert_eq!(found("[here](src/main.rs) and [there](../Cargo.toml#members)"), 0);
        assert_eq!(found("[here](src/nothing.rs)\n[there](../nowhere.md)"), 2);
    }

    #[test]
    fn other_places_and_code_are_left_alone() {
        assert_eq!(found("[web](https://example.org/x) [top](#a)"), 0);
        assert_eq!(found("`a[0](b)`\n```\n[x](nowhere.md)\n```"), 0);
        assert_eq!(found("[`code` in a link](nowhere.md)"), 1);
    }
}
