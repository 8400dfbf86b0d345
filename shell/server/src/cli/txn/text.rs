//! Times, durations and tables for people. Text that strangers chose (names, answers of participants) could hold
//! sequences that a terminal obeys: [`plain`] makes it harmless.

use std::time::Duration;

use crate::api::time::{Time, wall_ms};

/// Without characters that a terminal would take for more than text.
pub(super) fn plain(text: &str) -> String {
    let is_odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_odd(c) { ' ' } else { c }).collect()
}

/// The same, at most `most` characters long.
pub(super) fn short(text: &str, most: usize) -> String {
    let text = plain(text.trim());
    if text.chars().count() <= most {
        return text;
    }
    let head: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", head.trim_end())
}

/// Two figures are enough: `850 ms`, `12 s`, `4 min 10 s`, `3 h 5 min`, `2 d 4 h`.
pub(super) fn duration(duration: Duration) -> String {
    let (us, ms, s) = (duration.as_micros(), duration.as_millis(), duration.as_secs());
    let two = |whole: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{whole} {unit}"),
        rest => format!("{whole} {unit} {rest} {small}"),
    };
    match s {
        0 if us < 1000 => format!("{us} µs"),
        0 if ms < 10 => format!("{:.1} ms", us as f64 / 1000.0),
        0 => format!("{ms} ms"),
        1..10 => format!("{:.1} s", ms as f64 / 1000.0),
        10..60 => format!("{s} s"),
        60..3600 => two(s / 60, "min", s % 60, "s"),
        3600..86_400 => two(s / 3600, "h", s % 3600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

fn between(from: Time, to: Time) -> Duration {
    Duration::from_millis(to.0.saturating_sub(from.0))
}

/// How long ago.
pub(super) fn ago(time: Time) -> String {
    duration(rounded(between(time, Time(wall_ms()))))
}

/// How soon.
pub(super) fn soon(time: Time) -> String {
    let left = between(Time(wall_ms()), time);
    if left.is_zero() { "now".to_owned() } else { format!("in {}", duration(rounded(left))) }
}

/// Milliseconds say nothing about a clock of another machine.
fn rounded(duration: Duration) -> Duration {
    if duration < Duration::from_secs(1) {
        duration
    } else {
        Duration::from_secs(duration.as_secs())
    }
}

/// Such as `2026-11-21 12:30:00.250`.
pub(super) fn moment(time: Time) -> String {
    time.to_string().replace('T', " ").trim_end_matches('Z').to_owned()
}

/// Lines of columns as wide as their widest cell; the last one as it is.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head = line(&mut head.iter().copied());
    let rows = rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
    std::iter::once(head).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (ms, text) in [
            (0, "0 µs"),
            (3, "3.0 ms"),
            (850, "850 ms"),
            (1_250, "1.2 s"),
            (59_999, "59 s"),
            (250_000, "4 min 10 s"),
            (11_100_000, "3 h 5 min"),
            (172_800_000, "2 d"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn text_of_strangers_is_harmless() {
        assert_eq!(plain("a\u{1b}[2Jb\r\nc\u{202e}d"), "a [2Jb  c d");
        assert_eq!(short("  abcdef ", 4), "abc…");
        assert_eq!(short("abcd", 4), "abcd");
    }

    #[test]
    fn columns_line_up() {
        let rows =
            [vec!["a".to_owned(), "bcdef".to_owned()], vec!["äö".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["N", "LAST"], &rows), ["N   LAST", "a   bcdef", "äö  x"]);
    }
}
