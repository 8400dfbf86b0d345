//! Demo `bank`: transfers between accounts at four banks, whose money never becomes more or less.

use quorate_rng::Rng;
use serde_json::{Value, json};

use super::check::{Books, Line};
use super::deed::{Branch, Deed};
use super::options::{Kind, Options};
use super::service::Role;
use super::story::{ServicePlan, Story, Words};
use super::tally::{End, Tally};
use super::town::Town;

/// The banks.
const BANKS: [&str; 4] = ["north", "east", "south", "west"];
/// Accounts of each bank. The last one is closed.
pub(super) const ACCOUNTS: u64 = 25;
/// What is in each open account at first.
const MONEY: u64 = 1000;
/// The largest transfer; all from one on are equally likely.
const MOST: u64 = 150;

/// One side of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    pub(super) transfer: u64,
    pub(super) way: Way,
    pub(super) account: u64,
    pub(super) amount: u64,
}

/// Which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Out,
    In,
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

impl Leg {
    /// What a bank gets.
    pub(super) fn json(&self) -> String {
        json!({
            "transfer": self.transfer,
            "way": self.way.name(),
            "account": self.account,
            "amount": self.amount,
        })
        .to_string()
    }

    /// Reads it again. `None` if a field is missing.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(bytes).ok()?;
        let number = |name: &str| json.get(name).and_then(Value::as_u64);
        let way = json.get("way")?.as_str()?;
        Some(Self {
            transfer: number("transfer")?,
            way: [Way::Out, Way::In].into_iter().find(|known| known.name() == way)?,
            account: number("account")?,
            amount: number("amount")?,
        })
    }
}

/// The transfers, one after another.
#[derive(Clone, Debug)]
pub(super) struct Banks {
    random: Rng,
    kinds: Vec<Kind>,
    bases: [String; BANKS.len()],
    next: u64,
    last: u64,
}

impl Banks {
    fn with(bases: [String; BANKS.len()], options: &Options) -> Self {
        let random = Rng::new(options.seed);
        Self { random, kinds: options.kinds.clone(), bases, next: 1, last: options.deeds }
    }
}

impl Story for Banks {
    const WORDS: Words = Words { many: "transfers", refused: "overdraft, closed account" };

    fn services(_options: &Options) -> Vec<ServicePlan> {
        BANKS.map(|name| ServicePlan { name, role: Role::Bank, fill: MONEY }).to_vec()
    }

    fn new(options: &Options, town: &Town) -> Self {
        Self::with(BANKS.map(|name| town.base(name).to_owned()), options)
    }

    fn next(&mut self) -> Option<Deed> {
        if self.next > self.last {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let random = &mut self.random;
        let kind = self.kinds[random.below(self.kinds.len() as u64) as usize];
        let leaves = random.percent(1);
        let banks = BANKS.len() as u64;
        let from = random.below(banks);
        let to = (from + 1 + random.below(banks - 1)) % banks;
        let amount = 1 + random.below(MOST);
        // Nobody draws on a closed account.
        let accounts = (random.below(ACCOUNTS - 1), random.below(ACCOUNTS));
        let leg = |bank: u64, way, account| Branch {
            base: self.bases[bank as usize].clone(),
            body: Leg { transfer: number, way, account, amount }.json(),
        };
        Some(Deed {
            number,
            kind,
            before: None,
            branches: vec![leg(from, Way::Out, accounts.0), leg(to, Way::In, accounts.1)],
            is_abandoned: leaves && kind.can_be_abandoned(),
        })
    }

    fn ended(&mut self, _deed: &Deed, _end: End) {}

    fn sums(books: &Books) -> Vec<(&'static str, i64)> {
        vec![
            ("money in accounts", books.total("balance")),
            ("money frozen", books.total("frozen")),
            ("money put aside (closed account)", books.total("aside")),
            ("money, all of it", money(books)),
            ("transfers out", books.total("out")),
            ("transfers in", books.total("in")),
        ]
    }

    fn lines(before: &Books, after: &Books, tally: &Tally) -> Vec<Line> {
        let line = |what: &str, is, should_be| Line { what: what.to_owned(), is, should_be };
        let n = |name| after.total(name);
        vec![
            line("money, all of it", money(after), money(before)),
            line("money frozen", n("frozen"), 0),
            line("money announced", n("announced"), 0),
            line("accounts below zero", n("overdrawn"), 0),
            line("transfers out = committed", n("out"), tally.total().committed as i64),
            line("transfers in = transfers out", n("in"), n("out")),
            line("amounts in = amounts out", n("amounts_in"), n("amounts_out")),
            // The same ones, not only as many.
            line("numbers in = numbers out", n("numbers_in"), n("numbers_out")),
        ]
    }
}

fn money(books: &Books) -> i64 {
    books.total("balance") + books.total("frozen") + books.total("aside")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banks(line: &str) -> Banks {
        let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let options = Options::read(&args, "transfers").expect("options");
        Banks::with(BANKS.map(str::to_owned), &options)
    }

    #[test]
    fn the_same_seed_gives_the_same_transfers_between_two_banks() {
        let all = |seed| {
            let mut banks = banks(&format!("--transfers 300 --seed {seed}"));
            std::iter::from_fn(|| banks.next()).collect::<Vec<_>>()
        };
        assert_eq!(all(5), all(5));
        assert_ne!(all(5), all(6));
        for deed in all(5) {
            let [out, into] = deed.branches.as_slice() else { panic!("two branches") };
            assert_ne!(out.base, into.base);
            let (out, into) = (Leg::read(out.body.as_bytes()), Leg::read(into.body.as_bytes()));
            let (out, into) = (out.expect("a leg"), into.expect("a leg"));
            assert_eq!((out.way, into.way), (Way::Out, Way::In));
            assert_eq!((out.amount, out.transfer), (into.amount, into.transfer));
            assert!(out.account < ACCOUNTS - 1 && into.account < ACCOUNTS);
        }
    }

    #[test]
    fn money_that_is_lost_is_missed() {
        let books = |east: i64| {
            Books::of(json!({
                "north": { "balance": 900, "frozen": 0, "out": 1, "numbers_out": 7, "amounts_out": 100 },
                "east": { "balance": east, "in": 1, "numbers_in": 7, "amounts_in": 100 },
            }))
        };
        let before =
            Books::of(json!({ "north": { "balance": 1000 }, "east": { "balance": 1000 } }));
        let mut tally = Tally::default();
        tally.add(Kind::Saga, End::Committed, std::time::Duration::ZERO);
        assert!(Banks::lines(&before, &books(1100), &tally).iter().all(Line::holds));
        assert!(!Banks::lines(&before, &books(1099), &tally).iter().all(Line::holds));
    }
}
