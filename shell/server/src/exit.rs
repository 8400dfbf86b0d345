//! How the process ends: three kinds of failure, three exit codes, always one sentence.
//!
//! Scripts tell them apart: 1 = try again or look at the machine, 2 = the command line or the
//! configuration is wrong, 3 = the data is not what this process may touch. On 2 and 3 nothing in
//! the data directory has been changed, except by a member whose peers refused it for good.

use crate::terminal::complain;
use std::process::ExitCode;

/// Why the process ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// Exit code 1: something failed while starting or running.
    #[error("{0}")]
    Runtime(String),
    /// Exit code 2: flags, environment or file are not acceptable.
    #[error("{0}")]
    Usage(String),
    /// Exit code 3: the data is of another node, cluster or newer format, or is damaged, or peers saw it
    /// hold more than it does.
    #[error("{0}")]
    Refused(String),
}

impl Fatal {
    /// The number that the shell sees.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Runtime(_) => 1,
            Self::Usage(_) => 2,
            Self::Refused(_) => 3,
        }
    }

    /// Says why on standard error, and returns the code.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        complain(format_args!("quorate: {self}"));
        ExitCode::from(self.code())
    }
}
