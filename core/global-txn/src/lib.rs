//! Global transactions.
