//! Hosts and their addresses.
//!
//! The system's lookup blocks and cannot be stopped, and a name server that does not answer may hold it for half a minute.
//! So each name is looked up by at most one thread at a time, and everybody who asks meanwhile waits for the same answer:
//! a name that hangs holds up its own calls alone, however many there are.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_outcall::{CallFailure, Target};
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::unreachable;
use super::limits::{MAX_LOOKUPS, MAX_NAMES, NAME_TIME};

/// One host of a URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Host {
    /// As it stands in the URL, with its port if there is one.
    pub(super) authority: String,
    /// Without brackets.
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

impl Host {
    /// The host whose turn it is, and which of its addresses: hosts first, then the addresses of each.
    pub(super) fn of(target: &Target<'_>, turn: u32) -> (Self, usize) {
        let hosts = || target.authority.split(',');
        let (turn, count) = (usize::try_from(turn).unwrap_or(0), hosts().count());
        let authority = hosts().nth(turn % count).expect("a number below their count");
        (Self::parse(authority, target.tls), turn / count)
    }

    fn parse(authority: &str, tls: bool) -> Self {
        let usual = if tls { 443 } else { 80 };
        let (name, port) = match authority.rsplit_once(':') {
            // Checked by `Target::parse`; without digits the usual one is meant.
            Some((name, port)) if !port.contains(']') => (name, port.parse().unwrap_or(usual)),
            _ => (authority, usual),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self { authority: authority.to_owned(), name, port, tls }
    }
}

type Answer = Result<Arc<[SocketAddr]>, CallFailure>;

enum Entry {
    Known { addresses: Arc<[SocketAddr]>, until: Instant },
    LookedUp(watch::Receiver<Option<Answer>>),
}

/// Addresses that are known or being looked up.
#[derive(Default)]
pub(super) struct Names(Mutex<BTreeMap<(String, u16), Entry>>);

impl Names {
    /// The addresses of a host, the one whose turn it is first.
    ///
    /// # Errors
    /// `Unreachable`: there is none.
    pub(super) async fn addresses(
        self: &Arc<Self>,
        host: &Host,
        turn: usize,
    ) -> Result<Vec<SocketAddr>, CallFailure> {
        if let Ok(ip) = host.name.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, host.port)]);
        }
        let known = self.ask(&host.name, host.port)?;
        let addresses = match known {
            Ok(addresses) => addresses,
            Err(mut coming) => {
                let answer = coming.wait_for(Option::is_some).await.map_err(unreachable)?;
                answer.clone().expect("waited for")?
            }
        };
        let mut addresses = addresses.to_vec();
        let turn = turn % addresses.len();
        addresses.rotate_left(turn);
        Ok(addresses)
    }

    /// The next call looks the name up again: none of its addresses takes a connection.
    pub(super) fn forget(&self, host: &Host) {
        let mut all = self.lock();
        let name = (host.name.clone(), host.port);
        if matches!(all.get(&name), Some(Entry::Known { .. })) {
            all.remove(&name);
        }
    }

    /// What is known, or where it will be told.
    #[expect(clippy::type_complexity, reason = "known, or to be waited for, or neither")]
    fn ask(
        self: &Arc<Self>,
        name: &str,
        port: u16,
    ) -> Result<Result<Arc<[SocketAddr]>, watch::Receiver<Option<Answer>>>, CallFailure> {
        let mut all = self.lock();
        match all.get(&(name.to_owned(), port)) {
            Some(Entry::Known { addresses, until }) if Instant::now() < *until => {
                return Ok(Ok(Arc::clone(addresses)));
            }
            // Unless its thread has died.
            Some(Entry::LookedUp(coming)) if coming.has_changed().is_ok() => {
                return Ok(Err(coming.clone()));
            }
            _ => {}
        }
        make_room(&mut all)?;
        let (tell, coming) = watch::channel(None);
        let (names, key) = (Arc::clone(self), (name.to_owned(), port));
        let look_up = move || {
            let answer = look_up(&key);
            names.found(key, &answer);
            tell.send_replace(Some(answer));
        };
        std::thread::Builder::new()
            .name("name lookup".to_owned())
            .spawn(look_up)
            .map_err(unreachable)?;
        all.insert((name.to_owned(), port), Entry::LookedUp(coming.clone()));
        Ok(Err(coming))
    }

    fn found(&self, name: (String, u16), answer: &Answer) {
        let mut all = self.lock();
        all.remove(&name);
        if let Ok(addresses) = answer {
            let until = Instant::now() + NAME_TIME;
            all.insert(name, Entry::Known { addresses: Arc::clone(addresses), until });
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, u16), Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(all: &mut BTreeMap<(String, u16), Entry>) -> Result<(), CallFailure> {
    let lookups = all.values().filter(|entry| matches!(entry, Entry::LookedUp(_))).count();
    if lookups >= MAX_LOOKUPS {
        return Err(unreachable("too many names are being looked up"));
    }
    if all.len() >= MAX_NAMES {
        all.retain(|_, entry| matches!(entry, Entry::LookedUp(_)));
    }
    Ok(())
}

fn look_up((name, port): &(String, u16)) -> Answer {
    let found = (name.as_str(), *port).to_socket_addrs().map_err(unreachable)?;
    let mut addresses: Vec<_> = found.collect();
    let mut seen = std::collections::BTreeSet::new();
    addresses.retain(|address| seen.insert(*address));
    if addresses.is_empty() {
        Err(unreachable("the name has no address"))
    } else {
        Ok(addresses.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_outcall::{Method, Wire};

    fn host(url: &str, turn: u32) -> (String, u16, usize) {
        let target = Target::parse(url, Wire::Http { method: Method::Get }).unwrap();
        let (host, turn) = Host::of(&target, turn);
        (host.name, host.port, turn)
    }

    #[test]
    fn hosts_take_turns_then_their_addresses() {
        let url = "http://a:1,[::1]:2,c/x";
        assert_eq!(host(url, 0), ("a".to_owned(), 1, 0));
        assert_eq!(host(url, 1), ("::1".to_owned(), 2, 0));
        assert_eq!(host(url, 2), ("c".to_owned(), 80, 0));
        assert_eq!(host(url, 3), ("a".to_owned(), 1, 1));
        assert_eq!(host("https://[::1]", 7), ("::1".to_owned(), 443, 7));
        assert_eq!(host("https://a:/", 0), ("a".to_owned(), 443, 0));
    }

    #[tokio::test]
    async fn addresses_are_looked_up_once_and_remembered() {
        let names = Arc::new(Names::default());
        let target = "http://localhost:7/";
        let (host, _) =
            Host::of(&Target::parse(target, Wire::Http { method: Method::Get }).unwrap(), 0);
        let (one, other) = tokio::join!(names.addresses(&host, 0), names.addresses(&host, 0));
        assert_eq!(one, other);
        assert!(
            one.unwrap().iter().all(|address| address.ip().is_loopback() && address.port() == 7)
        );
        assert!(matches!(names.lock().values().next(), Some(Entry::Known { .. })));
        names.forget(&host);
        assert!(names.lock().is_empty());
    }

    #[tokio::test]
    async fn a_name_without_addresses_is_unreachable_and_not_remembered() {
        let names = Arc::new(Names::default());
        // RFC 6761: names under `.invalid` have no address.
        let host = Host::parse("nobody.invalid", false);
        let answer = names.addresses(&host, 0).await;
        assert!(matches!(answer, Err(CallFailure::Unreachable(_))), "{answer:?}");
        assert!(names.lock().is_empty());
    }
}
