//! Which orders there are: numbers from a seed, so that a run can be repeated with the same ones.

use serde_json::{Value, json};

use super::options::Kind;

/// Different things that are sold.
pub(super) const ITEMS: u64 = 20;
/// Customers who collect points.
pub(super) const CUSTOMERS: u64 = 50;
/// Most pieces in one order; they are equally likely from one on.
const MOST_PIECES: u64 = 3;

/// One order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) number: u64,
    pub(super) customer: u64,
    pub(super) item: u64,
    pub(super) pieces: u64,
    pub(super) points: u64,
}

impl Order {
    /// What all four services get.
    pub(super) fn json(&self) -> String {
        self.value().to_string()
    }

    /// The same, not yet written.
    pub(super) fn value(&self) -> Value {
        json!({
            "order": self.number,
            "customer": self.customer,
            "item": self.item,
            "pieces": self.pieces,
            "points": self.points,
        })
    }

    /// Reads it again. `None` if a field is missing.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        Self::of(&serde_json::from_slice(bytes).ok()?)
    }

    /// As [`Self::read`].
    pub(super) fn of(json: &Value) -> Option<Self> {
        let number = |name: &str| json.get(name).and_then(Value::as_u64);
        Some(Self {
            number: number("order")?,
            customer: number("customer")?,
            item: number("item")?,
            pieces: number("pieces")?,
            points: number("points")?,
        })
    }
}

/// What is done with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Purchase {
    pub(super) kind: Kind,
    pub(super) order: Order,
    /// Whoever pays it goes away in the middle, without a word.
    pub(super) is_abandoned: bool,
    /// It was paid before.
    pub(super) is_again: bool,
}

/// Pieces of each item at the start: for this many orders a little too few.
pub(super) fn stock(orders: u64) -> u64 {
    let wanted = orders * (1 + MOST_PIECES) / 2;
    (wanted * 97 / 100 / ITEMS).max(1)
}

/// Numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// The purchases, one after another.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    random: Random,
    kinds: Vec<Kind>,
    next: u64,
    last: u64,
    /// Some orders that are known to be paid.
    paid: Vec<Order>,
}

impl Plan {
    pub(super) fn new(seed: u64, kinds: &[Kind], orders: u64) -> Self {
        Self {
            random: Random(seed),
            kinds: kinds.to_vec(),
            next: 1,
            last: orders,
            paid: Vec::new(),
        }
    }

    /// The next one, until there are no more.
    pub(super) fn next(&mut self) -> Option<Purchase> {
        if self.next > self.last {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let random = &mut self.random;
        // Nobody can abandon a saga: it is handed over in one request.
        let kind = self.kinds[random.below(self.kinds.len() as u64) as usize];
        let (again, is_abandoned) = (random.percent(3), kind != Kind::Saga && random.percent(1));
        let pieces = 1 + random.below(MOST_PIECES);
        let (customer, item) = (random.below(CUSTOMERS), random.below(ITEMS));
        let order = Order { number, customer, item, pieces, points: 10 * pieces };
        let old = if again { self.paid.pop() } else { None };
        let is_again = old.is_some();
        Some(Purchase { kind, order: old.unwrap_or(order), is_abandoned, is_again })
    }

    /// An order is known to be paid: somebody may try to pay it again.
    pub(super) fn paid(&mut self, order: Order) {
        const REMEMBERED: usize = 100;
        if self.paid.len() < REMEMBERED {
            self.paid.push(order);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_orders() {
        let all = |seed| {
            let mut plan = Plan::new(seed, &Kind::ALL, 200);
            std::iter::from_fn(|| plan.next()).collect::<Vec<_>>()
        };
        assert_eq!(all(5), all(5));
        assert_ne!(all(5), all(6));
        assert_eq!(all(5).len(), 200);
        assert!(all(5).iter().any(|purchase| purchase.is_abandoned));
    }

    #[test]
    fn an_order_is_read_as_it_is_written() {
        let order = Order { number: 1, customer: 2, item: 3, pieces: 4, points: 5 };
        assert_eq!(Order::read(order.json().as_bytes()), Some(order));
        assert_eq!(Order::read(b"{}"), None);
    }

    #[test]
    fn what_was_paid_may_come_again() {
        let mut plan = Plan::new(1, &[Kind::Tcc], 1000);
        let first = plan.next().expect("an order").order;
        plan.paid(first);
        let again = std::iter::from_fn(|| plan.next()).find(|purchase| purchase.is_again);
        assert_eq!(again.expect("three of a hundred").order, first);
    }
}
