//! What operators do. Each deed is one request to the machine on this node, which writes it into the transaction's audit
//! together with the change itself.

use bytes::Bytes;
use quorate_global_txn::{GlobalTxnId, Operation, Reply, Request};
use serde::de::DeserializeOwned;

use super::limits::{BY_CHARS, NAME_CHARS, WHY_CHARS};
use super::problem::Problem;
use super::routes::Verb;
use super::types::{Code, Done, Intervention, Skip};
use super::{Api, read};
use crate::api::stored;

/// What is to be done, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    operation: Operation,
    by: String,
    why: String,
}

pub(super) async fn operate(
    api: &Api,
    gid: GlobalTxnId,
    verb: Verb,
    body: &Bytes,
) -> Result<Done, Problem> {
    let Asked { operation, by, why } = asked(verb, body)?;
    let request = Request::Operate { gid: gid.as_str().to_owned(), operation, by, why };
    match api.handle.global_txn(request, body.len()).await? {
        Reply::Refused(refused) => Err(named(api, &gid, refused.into()).await),
        Reply::Done | Reply::Progress(_) => {
            let (config, name) = (api.config(), gid.clone());
            let work = move |view: &_| read::summary(view, &name, &config);
            // It is done, whether or not it can be looked at.
            let txn = stored::read(&api.handle, work).await.ok().flatten();
            Ok(Done { gid: gid.as_str().to_owned(), txn })
        }
    }
}

/// A refusal, by the right name if the reason is that there is no such transaction.
async fn named(api: &Api, gid: &GlobalTxnId, problem: Problem) -> Problem {
    if problem.code() != Code::BadRequest {
        return problem;
    }
    let name = gid.clone();
    match stored::read(&api.handle, move |view| stored::head(view, &name)).await {
        Ok(None) => Problem::no_txn(gid.as_str()),
        Ok(Some(_)) => problem,
        Err(failure) => failure.into(),
    }
}

fn asked(verb: Verb, body: &[u8]) -> Result<Asked, Problem> {
    let operation = match verb {
        Verb::Skip => {
            let Skip { branch_id, op, by, why } = parsed(body)?;
            within("branch_id", branch_id.chars().count(), NAME_CHARS)?;
            within("op", op.chars().count(), NAME_CHARS)?;
            return Asked { operation: Operation::Skip { branch_id, op }, by, why }.checked();
        }
        Verb::Retry => Operation::RetryNow,
        Verb::Stop => Operation::Stop,
        Verb::Submit => Operation::Submit,
        Verb::Abort => Operation::Abort,
    };
    let Intervention { by, why } = parsed(body)?;
    Asked { operation, by, why }.checked()
}

impl Asked {
    fn checked(self) -> Result<Self, Problem> {
        within("by", self.by.chars().count(), BY_CHARS)?;
        within("why", self.why.chars().count(), WHY_CHARS)?;
        Ok(self)
    }
}

fn within(name: &str, length: usize, most: usize) -> Result<(), Problem> {
    if (1..=most).contains(&length) {
        return Ok(());
    }
    Err(Problem::bad(format!("'{name}' must not be empty and not be longer than {most}")))
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::bad(format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read() {
        let stop = asked(Verb::Stop, br#"{"by":"ada","why":"it must end"}"#).unwrap();
        assert_eq!((stop.operation, stop.by.as_str()), (Operation::Stop, "ada"));
        let skip = br#"{"by":"ada","why":"paid","branch_id":"01","op":"action"}"#;
        let skip = asked(Verb::Skip, skip).unwrap().operation;
        let wanted = Operation::Skip { branch_id: "01".to_owned(), op: "action".to_owned() };
        assert_eq!(skip, wanted);
    }

    #[test]
    fn who_and_why_must_be_said() {
        let long = format!(r#"{{"by":"{}","why":"w"}}"#, "ä".repeat(257));
        for (verb, body) in [
            (Verb::Stop, ""),
            (Verb::Stop, "[]"),
            (Verb::Stop, r#"{"by":"ada"}"#),
            (Verb::Stop, r#"{"by":"ada","why":""}"#),
            (Verb::Stop, r#"{"by":7,"why":"w"}"#),
            (Verb::Stop, r#"{"by":"a","by":"b","why":"w"}"#),
            (Verb::Stop, r#"{"by":"ada","why":"w","force":true}"#),
            (Verb::Skip, r#"{"by":"ada","why":"w"}"#),
            (Verb::Skip, r#"{"by":"ada","why":"w","branch_id":"","op":"x"}"#),
            (Verb::Stop, &long),
        ] {
            assert!(asked(verb, body.as_bytes()).is_err(), "{body}");
        }
        let fits = format!(r#"{{"by":"{}","why":"w"}}"#, "ä".repeat(256));
        assert!(asked(Verb::Stop, fits.as_bytes()).is_ok());
    }
}
