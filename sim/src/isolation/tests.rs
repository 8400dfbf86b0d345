//! The table in `docs/guarantees.md` says what the scenarios show, cell by cell.

use super::*;

const GUARANTEES: &str = include_str!("../../../docs/guarantees.md");

/// The line of a discipline's row in the table.
fn line(discipline: Discipline) -> &'static str {
    let heads = ["possible", "prevented"].map(|says| format!("| `{}` | {says}", discipline.name()));
    let is_cells = |line: &&str| heads.iter().any(|head| line.starts_with(head));
    let mut lines = GUARANTEES.lines().filter(is_cells);
    let line = lines.next().unwrap_or_else(|| panic!("no row for {}", discipline.name()));
    assert_eq!(lines.next(), None, "two rows for {}", discipline.name());
    line
}

#[test]
fn every_cell_of_the_table_is_what_its_scenario_shows() {
    for discipline in Discipline::ALL {
        let cells: Vec<&str> = line(discipline).split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 2 + 1 + Anomaly::ALL.len(), "{cells:?}");
        for (anomaly, cell) in Anomaly::ALL.into_iter().zip(&cells[2..]) {
            let Scenario { name, happens, transcript } = play(discipline, anomaly);
            let says = if happens { "possible" } else { "prevented" };
            assert!(cell.starts_with(says), "{name} is {says}, the table: {cell}\n{transcript}");
        }
    }
}

#[test]
fn a_scenario_repeats() {
    let transcript = || play(Discipline::Saga, Anomaly::DirtyRead).transcript;
    assert_eq!(transcript(), transcript());
    let expected = "writer begins\nwriter: Add(\"x\", -30) in A: Done(None)\nsomebody reads x in A: Some(Done(Some(70)))\n";
    assert!(transcript().starts_with(expected), "{}", transcript());
}
