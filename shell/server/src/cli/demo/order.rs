//! Demo `order`: orders are created, and paid by one global transaction over four services.

use quorate_rng::Rng;
use serde_json::{Value, json};

use super::check::{Books, Line};
use super::deed::{Branch, Deed};
use super::options::{Kind, Options};
use super::service::Role;
use super::story::{ServicePlan, Story, Words};
use super::tally::{End, Tally};
use super::town::Town;

/// Different things that are sold. Of the first one there is little.
pub(super) const ITEMS: u64 = 20;
/// Customers who collect points.
const CUSTOMERS: u64 = 50;
/// Most pieces in one order; they are equally likely from one on.
const MOST_PIECES: u64 = 3;
/// With a time limit there is stock for this many orders in each second.
const ORDERS_PER_S: u64 = 1000;
/// Paid orders that somebody may try to pay again.
const REMEMBERED: usize = 100;
/// The four, in the order in which they are asked.
const SERVICES: [Role; 4] = [Role::Order, Role::Stock, Role::Points, Role::Delivery];

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
        json!({
            "order": self.number,
            "customer": self.customer,
            "item": self.item,
            "pieces": self.pieces,
            "points": self.points,
        })
        .to_string()
    }

    /// Reads it again. `None` if a field is missing.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(bytes).ok()?;
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

/// Pieces of an item at first, if there are `fill` of most: of the first one a twentieth.
pub(super) fn pieces_of(item: u64, fill: u64) -> u64 {
    if item == 0 { fill.div_ceil(20) } else { fill }
}

/// Enough pieces of each item.
fn fill(options: &Options) -> u64 {
    let in_time = options.time.map_or(u64::MAX, |time| time.as_secs() * ORDERS_PER_S);
    let orders = options.deeds.min(in_time);
    orders * (1 + MOST_PIECES) / 2 / ITEMS * 5 / 4 + 20
}

/// The orders, one after another.
#[derive(Clone, Debug)]
pub(super) struct Shop {
    random: Rng,
    kinds: Vec<Kind>,
    /// Addresses of order, stock, points and delivery.
    bases: [String; 4],
    next: u64,
    last: u64,
    /// Some orders that are known to be paid.
    paid: Vec<Order>,
}

impl Shop {
    fn with(bases: [String; 4], options: &Options) -> Self {
        Self {
            random: Rng::new(options.seed),
            kinds: options.kinds.clone(),
            bases,
            next: 1,
            last: options.deeds,
            paid: Vec::new(),
        }
    }

    fn deed(&self, kind: Kind, order: &Order, is_abandoned: bool) -> Deed {
        let body = order.json();
        let branch = |base: &String| Branch { base: base.clone(), body: body.clone() };
        Deed {
            number: order.number,
            kind,
            before: Some((format!("{}/create", self.bases[0]), body.clone())),
            branches: self.bases.iter().map(branch).collect(),
            is_abandoned,
        }
    }
}

impl Story for Shop {
    const WORDS: Words = Words { many: "orders", refused: "already paid, out of stock" };

    fn services(options: &Options) -> Vec<ServicePlan> {
        let fill = fill(options);
        SERVICES.map(|role| ServicePlan { name: role.name(), role, fill }).to_vec()
    }

    fn new(options: &Options, town: &Town) -> Self {
        Self::with(SERVICES.map(|role| town.base(role.name()).to_owned()), options)
    }

    fn next(&mut self) -> Option<Deed> {
        if self.next > self.last {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let random = &mut self.random;
        let kind = self.kinds[random.below(self.kinds.len() as u64) as usize];
        let (again, leaves) = (random.percent(3), random.percent(1));
        let pieces = 1 + random.below(MOST_PIECES);
        let (customer, item) = (random.below(CUSTOMERS), random.below(ITEMS));
        let order = Order { number, customer, item, pieces, points: 10 * pieces };
        let old = if again { self.paid.pop() } else { None };
        Some(self.deed(kind, &old.unwrap_or(order), leaves && kind.can_be_abandoned()))
    }

    fn ended(&mut self, deed: &Deed, end: End) {
        if end != End::Committed || self.paid.len() == REMEMBERED {
            return;
        }
        let body = deed.branches.first().map_or(&[][..], |branch| branch.body.as_bytes());
        self.paid.extend(Order::read(body));
    }

    fn sums(books: &Books) -> Vec<(&'static str, i64)> {
        vec![
            ("orders paid", books.number("order", "PAYED")),
            ("orders canceled", books.number("order", "CANCELED")),
            ("pieces available", books.number("stock", "available")),
            ("pieces frozen", books.number("stock", "frozen")),
            ("pieces sold", books.number("stock", "sold")),
            ("pieces bought for messages", books.number("stock", "bought")),
            ("points", books.number("points", "points")),
            ("delivery notes", books.number("delivery", "notes")),
        ]
    }

    fn lines(before: &Books, after: &Books, tally: &Tally) -> Vec<Line> {
        let n = |service, name| after.number(service, name);
        let line = |what: &str, is, should_be| Line { what: what.to_owned(), is, should_be };
        let paid = n("order", "PAYED");
        vec![
            line("orders paid = orders committed", paid, tally.total().committed as i64),
            line("orders half paid", n("order", "UPDATING"), 0),
            line(
                "stock available + sold",
                n("stock", "available") + n("stock", "sold"),
                before.number("stock", "available"),
            ),
            line("stock frozen", n("stock", "frozen"), 0),
            line(
                "stock sold + bought = pieces paid",
                n("stock", "sold") + n("stock", "bought"),
                n("order", "pieces"),
            ),
            line("points = points paid for", n("points", "points"), n("order", "points")),
            line("points in advance", n("points", "pre_added"), 0),
            line("delivery notes = orders paid", n("delivery", "notes"), paid),
            line("delivery notes prepared", n("delivery", "prepared"), 0),
            line("pieces delivered = pieces paid", n("delivery", "pieces"), n("order", "pieces")),
        ]
    }
}

#[cfg(test)]
mod tests;
