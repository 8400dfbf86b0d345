//! A branch that joins: a flat object of texts to the machine's [`BranchRequest`].

use bytes::Bytes;
use quorate_global_txn::BranchRequest;

use super::json::Object;
use super::lenient::{Unreadable, text_of};

/// Reads the body of registerBranch. `kind` is the transaction's if the body does not say: the paths of old
/// clients (`/registerTccBranch`, `/registerXaBranch`) carry it.
///
/// # Errors
/// In words for the client.
pub(super) fn branch(object: &Object<'_>, kind: &str) -> Result<BranchRequest, Unreadable> {
    let mut request = BranchRequest { trans_type: kind.to_owned(), ..BranchRequest::default() };
    for (name, value) in object.entries() {
        let value = text_of("the fields of a branch", value)?;
        match name {
            "gid" => value.clone_into(&mut request.gid),
            "trans_type" if value.is_empty() => {}
            "trans_type" => value.clone_into(&mut request.trans_type),
            "branch_id" => value.clone_into(&mut request.branch_id),
            "data" => request.data = Bytes::copy_from_slice(value.as_bytes()),
            _ => request.fields.push((name.to_owned(), value.to_owned())),
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dtm::lenient::object;

    #[test]
    fn a_tcc_branch_is_read() {
        let json = object(
            br#"{"gid":"g","branch_id":"01","data":"{}","status":"prepared","confirm":"http://c",
                "cancel":"http://x","try":null,"trans_type":null}"#,
        )
        .unwrap();
        let request = branch(&json, "tcc").unwrap();
        assert_eq!((request.trans_type.as_str(), request.branch_id.as_str()), ("tcc", "01"));
        assert_eq!((request.field("confirm"), request.field("cancel")), ("http://c", "http://x"));
        assert_eq!(request.field("try"), "");
        assert_eq!(request.data, "{}");
    }

    #[test]
    fn values_that_are_no_texts_are_refused() {
        let json = object(br#"{"gid":"g","branch_id":1}"#).unwrap();
        assert!(branch(&json, "").is_err());
    }
}
