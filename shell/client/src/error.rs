//! What can go wrong, by what the caller should do about it.

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side said no (status 409, or the word FAILURE): it has changed nothing and will not, and
    /// asking again gives the same answer.
    #[error("refused: {0}")]
    Refused(String),
    /// The other side is still at it (status 425, or the word ONGOING): ask again later.
    #[error("still going on: {0}")]
    Ongoing(String),
    /// Nobody can answer at the moment, or the answer was lost: whether anything changed is not known. Every
    /// request of this library may be sent again.
    #[error("no answer from {url}: {why}")]
    Unavailable {
        /// Who was asked.
        url: String,
        /// What happened.
        why: String,
    },
    /// The other side failed, or was asked something that it does not understand: repeating does not help
    /// by itself.
    #[error("{url} answered {status}: {message}")]
    Failed {
        /// Who was asked.
        url: String,
        /// Its HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// An address that is none, or a call of a branch without the parameters that name its step. Nothing
    /// was sent.
    #[error("{0}")]
    Malformed(String),
    /// The local transaction of a message was carried out before, or has been given up by a check-back: its
    /// change must not be made (again).
    #[error("this message's local transaction is settled already")]
    Settled,
    /// A workflow has not ended: a step neither succeeded nor failed, or could not be recorded. The
    /// coordinator calls back; running it again goes on where it stopped.
    #[error("the workflow has not ended: {0}")]
    Unfinished(String),
    /// A workflow's function does something else than it did in an earlier run. It is not ended either way:
    /// a person has to look.
    #[error("{0}, which an earlier run of it contradicts")]
    Diverged(String),
    /// The branch's own database. Its transaction is rolled back.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The branch's Redis: its change may have been made or not. The call may come again.
    #[cfg(feature = "redis")]
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
}
