//! Which orders there are, and sums that agree or not.

use super::*;

fn shop(seed: u64, kinds: &[Kind], orders: u64) -> Shop {
    let line = format!("--seed {seed} --orders {orders}");
    let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    let mut options = Options::read(&args, "orders").expect("options");
    options.kinds = kinds.to_vec();
    Shop::with(["o", "s", "p", "d"].map(str::to_owned), &options)
}

#[test]
fn the_same_seed_gives_the_same_orders() {
    let all = |seed| {
        let mut shop = shop(seed, &Kind::ALL, 200);
        std::iter::from_fn(|| shop.next()).collect::<Vec<_>>()
    };
    assert_eq!(all(5), all(5));
    assert_ne!(all(5), all(6));
    assert_eq!(all(5).len(), 200);
    assert!(all(5).iter().any(|deed| deed.is_abandoned));
    assert!(all(5).iter().all(|deed| deed.kind != Kind::Saga || !deed.is_abandoned));
}

#[test]
fn an_order_is_read_as_it_is_written() {
    let order = Order { number: 1, customer: 2, item: 3, pieces: 4, points: 5 };
    assert_eq!(Order::read(order.json().as_bytes()), Some(order));
    assert_eq!(Order::read(b"{}"), None);
}

#[test]
fn what_was_paid_may_come_again() {
    let mut shop = shop(1, &[Kind::Tcc], 1000);
    let first = shop.next().expect("an order");
    shop.ended(&first, End::Committed);
    let again = std::iter::from_fn(|| shop.next()).find(|deed| deed.number == first.number);
    assert_eq!(again.expect("three of a hundred").branches, first.branches);
}

#[test]
fn sums_that_do_not_agree_are_found() {
    let books = |sold: i64| {
        Books::of(json!({
            "order": { "PAYED": 2, "pieces": 4, "points": 40, "run": 5 },
            "stock": { "available": 20 * 9 - 4, "sold": sold, "run": 7 },
            "points": { "points": 40 },
            "delivery": { "notes": 2, "pieces": 4 },
        }))
    };
    let before = Books::of(json!({ "stock": { "available": 20 * 9 } }));
    let mut tally = Tally::default();
    for _ in 0..2 {
        tally.add(Kind::Tcc, End::Committed, std::time::Duration::ZERO);
    }
    assert!(Shop::lines(&before, &books(4), &tally).iter().all(Line::holds));
    let lines = Shop::lines(&before, &books(3), &tally);
    let wrong: Vec<_> = lines.into_iter().filter(|line| !line.holds()).collect();
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert_eq!(books(4).total("run"), 12);
}
