//! Rust files: short enough to be read in one sitting, and opened by a chapter; and no work left
//! behind without a place where it is tracked.

use super::{Finding, Source};

/// Most lines of a file, without its tests.
const MAX_LINES: usize = 800;
/// What a module opens with.
const CHAPTER: &str = "//!";

/// Looks at one file.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    if !source.is("rs") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let lines = source.text.lines().take_while(|l| !starts_tests(l)).count();
    if lines > MAX_LINES && !is_tests(source) {
        findings
            .push(source.finding(0, format!("{lines} lines without tests, {MAX_LINES} at most")));
    }
    if !opens_with_chapter(&source.text) {
        findings
            .push(source.finding(1, "a module opens with `//!`: what it is, what it leaves out"));
    }
    findings.extend(untracked(source));
    findings
}

/// `#[cfg(test)]` in the first column: what follows is tests.
fn starts_tests(line: &str) -> bool {
    line.starts_with("#[cfg(test)]")
}

/// Files that hold tests alone.
fn is_tests(source: &Source) -> bool {
    source.path.components().any(|c| c.as_os_str() == "tests")
        || source.path.file_name().is_some_and(|n| n == "tests.rs")
}

fn opens_with_chapter(text: &str) -> bool {
    let first = text.lines().find(|l| !l.trim().is_empty() && !l.starts_with("#!["));
    first.is_some_and(|l| l.starts_with(CHAPTER))
}

/// A note of work to be done must name where it is tracked: `(#12)` or an address.
fn untracked(source: &Source) -> Vec<Finding> {
    // Put together here, so that this file does not find itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let names_tracker = |rest: &str| rest.starts_with("(#") || rest.starts_with("(issue ");
    let numbered = source.text.lines().enumerate();
    let found = numbered.filter(|(_, line)| {
        words.iter().any(|word| {
            let mut parts = line.split(word).skip(1);
            parts.any(|rest| !names_tracker(rest)) && is_comment(line)
        })
    });
    found
        .map(|(i, _)| source.finding(i + 1, "a note of work to do names its tracker: (#12)"))
        .collect()
}

fn is_comment(line: &str) -> bool {
    line.contains("//")
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn whats(path: &str, text: &str) -> Vec<String> {
        check(&source(path, text)).into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn a_long_file_is_found_but_its_tests_do_not_count() {
        let long = format!("//! A chapter.\n{}", "a\n".repeat(MAX_LINES));
        assert_eq!(whats("core/a.rs", &long).len(), 1);
        assert_eq!(whats("core/a/tests.rs", &long), Vec::<String>::new());
        let tested = format!("//! A chapter.\n#[cfg(test)]\n{}", "a\n".repeat(MAX_LINES));
        assert_eq!(whats("core/a.rs", &tested), Vec::<String>::new());
    }

    #[test]
    fn a_module_without_a_chapter_is_found() {
        assert_eq!(whats("a.rs", "use b;\n").len(), 1);
        assert_eq!(whats("a.rs", "#![forbid(unsafe_code)]\n\n//! A chapter.\n").len(), 0);
        assert_eq!(whats("a.py", "import b\n").len(), 0);
    }

    #[test]
    fn work_to_do_names_its_tracker() {
        let line = |rest: &str| format!("//! A chapter.\n// {}{rest}\n", concat!("TO", "DO"));
        assert_eq!(whats("a.rs", &line(": later")).len(), 1);
        assert_eq!(whats("a.rs", &line("(#12): later")).len(), 0);
    }
}
