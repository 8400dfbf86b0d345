//! Names of tables, which are part of statements and so must be nothing but names.

use crate::error::Error;

/// Longest part of a name, in bytes: the shortest bound among the databases.
const MAX_PART: usize = 63;

/// The name of a barrier table, with or without its schema (in MySQL: its database).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName(String);

impl TableName {
    /// `TABLE` or `SCHEMA.TABLE`: letters, digits and `_`, the first one no digit.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn new(name: &str) -> Result<Self, Error> {
        let is_name = |part: &str| {
            let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
            part.starts_with(letter)
                && part.len() <= MAX_PART
                && part.chars().all(|c| letter(c) || c.is_ascii_digit())
        };
        let mut parts = name.splitn(2, '.');
        if !parts.all(is_name) {
            return Err(Error::Malformed(format!("'{name}' is no name of a table")));
        }
        Ok(Self(name.to_owned()))
    }

    /// As it stands in a statement.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its schema, if it names one.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.0.split_once('.').map(|(schema, _)| schema)
    }
}

impl Default for TableName {
    /// DTM's: `dtm_barrier.barrier`.
    fn default() -> Self {
        Self("dtm_barrier.barrier".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_names() {
        for name in ["barrier", "dtm_barrier.barrier", "_x9.Y"] {
            assert_eq!(TableName::new(name).expect("a name").as_str(), name);
        }
        let long = "a".repeat(64);
        for name in ["", ".", "a.", ".b", "a.b.c", "9a", "a b", "a;--", "a'b", "\u{e4}", &long] {
            assert!(TableName::new(name).is_err(), "{name}");
        }
        assert_eq!(TableName::default().schema(), Some("dtm_barrier"));
    }
}
