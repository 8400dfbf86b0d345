//! The books: sums of the services, and whether they agree.

use serde_json::{Map, Value};

use super::town::Town;
use crate::exit::Fatal;

/// The reports of all services, by name.
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
        for name in town.services() {
            books.insert(name.to_owned(), town.report(name).await?);
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
        self.0.keys().map(|service| self.number(service, name)).sum()
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// Books with these reports.
    #[cfg(test)]
    pub(super) fn of(json: Value) -> Self {
        let Value::Object(reports) = json else { panic!("an object of reports") };
        Self(reports)
    }
}
