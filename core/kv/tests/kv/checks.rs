//! The duplicate check against the plain definition: write out every path through a transaction, and
//! look at every pair of changes on it.

use proptest::prelude::*;
use quorate_kv::check::{check_txn, contains_nested, is_read_only};
use quorate_kv::limits::TxnLimits;
use quorate_kv::*;

use crate::generate;

/// The operations on each path, transactions resolved.
fn paths(txn: &TxnRequest) -> Vec<Vec<&Op>> {
    let mut all = branch_paths(&txn.success);
    all.extend(branch_paths(&txn.failure));
    all
}

fn branch_paths(ops: &[Op]) -> Vec<Vec<&Op>> {
    let mut all = vec![Vec::new()];
    for op in ops {
        let more = match op {
            Op::Txn(txn) => paths(txn),
            op => vec![vec![op]],
        };
        let mut longer = Vec::new();
        for path in &all {
            longer.extend(more.iter().map(|more| [&path[..], &more[..]].concat()));
        }
        all = longer;
    }
    all
}

fn clash(a: &Op, b: &Op) -> bool {
    match (a, b) {
        (Op::Put(a), Op::Put(b)) => a.key == b.key,
        (Op::Put(put), Op::Delete(delete)) | (Op::Delete(delete), Op::Put(put)) => {
            delete.range.contains(&put.key)
        }
        _ => false,
    }
}

fn has_duplicate(path: &[&Op]) -> bool {
    (0..path.len()).any(|i| (0..i).any(|j| clash(path[i], path[j])))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn finds_the_duplicates_that_paths_show(txn in generate::txn()) {
        let expected = paths(&txn).iter().any(|path| has_duplicate(path));
        let found = check_txn(&txn, &TxnLimits::default());
        prop_assert_eq!(found, if expected { Err(Refusal::DuplicateKey) } else { Ok(()) });
    }

    /// Many deletes, which merge into intervals, and then one put.
    #[test]
    fn remembers_every_deleted_key(
        deletes in proptest::collection::vec((generate::key(), generate::key()), 2..7),
        key in generate::key(),
    ) {
        let delete = |(key, end): (bytes::Bytes, bytes::Bytes)| {
            // An end that is not above the key stands for the single key here.
            let range_end = if end > key { end } else { bytes::Bytes::new() };
            let range = KeyRange { key, range_end };
            Op::Delete(DeleteRequest { range, prev_kv: false })
        };
        let mut success: Vec<Op> = deletes.into_iter().map(delete).collect();
        success.push(Op::Put(PutRequest { key, ..PutRequest::default() }));
        let txn = TxnRequest { success, ..TxnRequest::default() };
        let expected = paths(&txn).iter().any(|path| has_duplicate(path));
        let found = check_txn(&txn, &TxnLimits::default());
        prop_assert_eq!(found, if expected { Err(Refusal::DuplicateKey) } else { Ok(()) });
    }

    #[test]
    fn tells_reads_from_writes(txn in generate::txn()) {
        let text = format!("{txn:?}");
        let writes = text.contains("PutRequest") || text.contains("DeleteRequest");
        prop_assert_eq!(is_read_only(&txn), !writes);
        prop_assert_eq!(contains_nested(&txn), text.matches("TxnRequest").count() > 1);
    }
}
