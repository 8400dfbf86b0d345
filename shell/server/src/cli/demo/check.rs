//! The books: sums of the four services, and whether they agree.

use serde_json::{Map, Value};

use super::plan::ITEMS;
use super::service::Role;
use super::tally::Tally;
use super::town::Town;
use crate::exit::Fatal;

/// The reports of all services.
#[derive(Clone, Debug)]
pub(super) struct Books(Map<String, Value>);

/// One thing that must be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) what: String,
    pub(super) is: i64,
    pub(super) should_be: i64,
}

impl Line {
    pub(super) fn holds(&self) -> bool {
        self.is == self.should_be
    }
}

impl Books {
    /// Asks all services.
    pub(super) async fn read(town: &Town) -> Result<Self, Fatal> {
        let mut books = Map::new();
        for role in Role::ALL {
            books.insert(role.name().to_owned(), town.report(role).await?);
        }
        Ok(Self(books))
    }

    /// A number of a service; 0 if it has none of this name.
    pub(super) fn number(&self, service: &str, name: &str) -> i64 {
        let report = self.0.get(service);
        report.and_then(|report| report.get(name)).and_then(Value::as_i64).unwrap_or(0)
    }

    /// A number over all services.
    pub(super) fn total(&self, name: &str) -> i64 {
        Role::ALL.into_iter().map(|role| self.number(role.name(), name)).sum()
    }

    /// What must be so when nothing is under way. `stock` pieces of each item were there at first.
    pub(super) fn lines(&self, tally: &Tally, stock: u64) -> Vec<Line> {
        let n = |service, name| self.number(service, name);
        let line = |what: &str, is, should_be| Line { what: what.to_owned(), is, should_be };
        let pieces = (stock * ITEMS) as i64;
        vec![
            line("orders paid = orders committed", n("order", "PAYED"), tally.committed as i64),
            line("orders half paid", n("order", "UPDATING"), 0),
            line("stock available + sold", n("stock", "available") + n("stock", "sold"), pieces),
            line("stock frozen", n("stock", "frozen"), 0),
            line(
                "stock sold + bought = pieces paid",
                n("stock", "sold") + n("stock", "bought"),
                n("order", "pieces"),
            ),
            line("points = points paid for", n("points", "points"), n("order", "points")),
            line("points in advance", n("points", "pre_added"), 0),
            line("delivery notes = orders paid", n("delivery", "notes"), n("order", "PAYED")),
            line("delivery notes prepared", n("delivery", "prepared"), 0),
            line("pieces delivered = pieces paid", n("delivery", "pieces"), n("order", "pieces")),
        ]
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn books(sold: i64) -> Books {
        let json = json!({
            "order": { "PAYED": 2, "pieces": 4, "points": 40, "run": 5 },
            "stock": { "available": 20 * 9 - 4, "sold": sold, "run": 7 },
            "points": { "points": 40 },
            "delivery": { "notes": 2, "pieces": 4 },
        });
        let Value::Object(map) = json else { panic!("an object") };
        Books(map)
    }

    #[test]
    fn sums_that_do_not_agree_are_found() {
        let mut tally = Tally::default();
        tally.committed = 2;
        assert!(books(4).lines(&tally, 9).iter().all(Line::holds));
        let wrong: Vec<_> = books(3).lines(&tally, 9).into_iter().filter(|l| !l.holds()).collect();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert_eq!(books(4).total("run"), 12);
    }
}
