//! Round trips, damage, and the bytes of version 1.

use super::*;
use proptest::prelude::*;

fn record() -> Record {
    let tries = Tries {
        errors: 2,
        next_ms: 900,
        last: Some(Answer { class: Class::Failure, text: "no".to_owned() }),
    };
    let row = |op, source, tries| Row {
        branch_id: "01".to_owned(),
        op,
        status: RowStatus::Succeed,
        source,
        has_url: true,
        is_needed: false,
        tries,
        created_wall_ms: 10,
        finished_wall_ms: 11,
    };
    Record {
        kind: Kind::Tcc,
        status: Status::Aborting,
        options: Options { retry_limit: 3, orders: vec![vec![], vec![0]], ..Options::default() },
        rows: vec![
            row(Op::Cancel, Source::Part(0), tries.clone()),
            row(Op::Named("x".to_owned()), Source::Step(300), Tries::default()),
        ],
        parts: 1,
        calls: 9,
        audits: 0,
        has_content: false,
        has_headers: true,
        has_query: false,
        callback: Tries::default(),
        retry_count: 1,
        created_ms: 5,
        since_ms: 6,
        changed_ms: 7,
        due_ms: Some(900),
        done_ms: None,
        created_wall_ms: 10,
        updated_wall_ms: 12,
        finished_wall_ms: 0,
        rollback_reason: "why".to_owned(),
        result: String::new(),
        is_forced: true,
    }
}

#[test]
fn bytes_of_version_one() {
    let hex = |bytes: Bytes| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let fields = [
        "01",             // version
        "0102",           // tcc, aborting
        "0a",             // has_headers, is_forced
        "0000",           // HTTP, no flag of the options
        "00000003",       // three times not given; retry limit 3
        "00",             // no delay
        "02000100",       // orders of two steps: none; one, step 0
        "02",             // two rows
        "0230310401",     // 01, cancel, succeeded
        "0d00",           // has a URL, in a part, has tries; part 0
        "028407010002",   // two errors, next at 900, an answer: failure,
        "6e6f",           // "no"
        "0a0b",           // created at 10, ended at 11
        "023031ff017801", // 01, named "x", succeeded
        "01ac020a0b",     // has a URL; step 300; created, ended
        "000000",         // callback: no errors, at once, no answer
        "01",             // one part
        "0900",           // nine calls, no audit
        "01",             // one retry
        "050607",         // created, in this status since, changed
        "01840700",       // due at 900; not done
        "0a0c00",         // wall clock: created, updated, not finished
        "0377687900",     // "why", no result
    ];
    assert_eq!(hex(record().encode()), fields.concat());
}

#[test]
fn everything_comes_back() {
    assert_eq!(Record::decode(&record().encode()), Ok(record()));
    let content = Content {
        steps: vec![Step { action: "http://a".to_owned(), compensate: String::new() }],
        payloads: vec![Bytes::from_static(b"\x00\xff")],
        headers: vec![("k".to_owned(), "v".to_owned())],
        query_prepared: "q".to_owned(),
        custom_data: "{}".to_owned(),
        name: String::new(),
    };
    assert_eq!(Content::decode(&content.encode()), Ok(content));
    let part = Part { urls: vec!["u".to_owned(), String::new()], data: Bytes::from_static(b"d") };
    assert_eq!(Part::decode(&part.encode()), Ok(part));
    let text = |text: &str| text.to_owned();
    let call = CallEntry {
        wall_ms: 1,
        branch_id: text("01"),
        op: text("confirm"),
        class: Some(Class::Ongoing),
        latency_us: 300,
        attempts: 2,
        text: text("wait"),
    };
    assert_eq!(CallEntry::decode(&call.encode()), Ok(call));
    let audit = AuditEntry { wall_ms: 2, by: text("me"), what: text("stop"), why: text("so") };
    assert_eq!(AuditEntry::decode(&audit.encode()), Ok(audit));
    let subscriber = Subscriber { url: text("http://a"), remark: text("r") };
    let topic = Topic { version: 3, subscribers: vec![subscriber], ..Topic::default() };
    assert_eq!(Topic::decode(&topic.encode()), Ok(topic));
}

#[test]
fn damage_is_an_error_or_another_record() {
    let whole = record().encode();
    for end in 0..whole.len() {
        assert!(Record::decode(&whole.slice(..end)).is_err(), "cut at {end}");
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 1 << bit;
            if let Ok(other) = Record::decode(&bytes.clone().into()) {
                assert_eq!(other.encode(), bytes, "a second encoding, bit {bit} of byte {at}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        let bytes = Bytes::from(bytes);
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes.clone());
        }
        let _ = Content::decode(&bytes);
        let _ = Part::decode(&bytes);
    }
}
