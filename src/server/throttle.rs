//! Throttling of logins, per account and per peer, and of registrations, per peer, in bounded
//! memory.

mod buckets;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use tokio::sync::Notify;

use self::buckets::{Buckets, Refusal};
use super::fault::Fault;
use crate::model::Timestamp;

/// How many failed logins and how many registrations are let through. A login that succeeds
/// does not count, and one that is not judged yet makes others wait rather than refuses them. A
/// burst of 0 turns its limit off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleOptions {
    /// Failed logins of one account from one peer in a row.
    pub account_burst: u32,
    /// Seconds after which one more of them is let through.
    pub account_refill_s: u32,
    /// Failed logins of one account in a row, from all peers that never logged in to it. Those
    /// that did are not slowed by strangers.
    pub stranger_burst: u32,
    /// Seconds after which one more of them is let through.
    pub stranger_refill_s: u32,
    /// Failed logins of one peer (an IPv4 address, or a /64 of IPv6) in a row.
    pub peer_burst: u32,
    /// Seconds after which one more of a peer is let through.
    pub peer_refill_s: u32,
    /// Registrations of one peer in a row, whatever came of them; repetitions do not count.
    pub register_burst: u32,
    /// Seconds after which one more of a peer is let through.
    pub register_refill_s: u32,
    /// Accounts and peers remembered at most, each; those that failed least are forgotten first.
    pub entries_max: usize,
}

impl Default for ThrottleOptions {
    fn default() -> Self {
        Self {
            account_burst: 10,
            account_refill_s: 30,
            stranger_burst: 50,
            stranger_refill_s: 30,
            peer_burst: 100,
            peer_refill_s: 2,
            register_burst: 200,
            register_refill_s: 2,
            entries_max: 100_000,
        }
    }
}

/// The throttle of logins and registrations.
#[derive(Debug)]
pub struct Throttle {
    peers: Buckets<IpAddr>,
    accounts: Buckets<(String, Option<IpAddr>)>,
    strangers: Buckets<String>,
    registrations: Buckets<IpAddr>,
    /// Who has logged in to which account from where.
    known: Mutex<HashSet<(String, IpAddr)>>,
    known_max: usize,
    /// Told whenever an attempt has ended.
    ended: Notify,
}

/// An attempt that was let through and counts until it is known to have succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    account: String,
    peer: Option<IpAddr>,
    stranger: bool,
}

impl Throttle {
    /// A throttle of which nobody has used anything.
    pub fn new(options: ThrottleOptions) -> Self {
        let max = options.entries_max.max(1);
        Self {
            peers: Buckets::new(options.peer_burst, options.peer_refill_s, max),
            accounts: Buckets::new(options.account_burst, options.account_refill_s, max),
            strangers: Buckets::new(options.stranger_burst, options.stranger_refill_s, max),
            registrations: Buckets::new(options.register_burst, options.register_refill_s, max),
            known: Mutex::default(),
            known_max: max,
            ended: Notify::new(),
        }
    }

    /// Lets an attempt through and counts it, or says when to come again; then it counts not.
    /// While there are others in flight that may yet turn out not to count, it waits for them.
    /// Cancel-safe.
    pub async fn attempt(
        &self,
        account: &str,
        peer: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Attempt, Fault> {
        let peer = peer.map(network);
        let stranger = !peer.is_some_and(|peer| self.knows(account, peer));
        let attempt = Attempt { account: account.to_owned(), peer, stranger };
        loop {
            // Before the look, so that no end is missed.
            let ended = self.ended.notified();
            match self.take(&attempt, now) {
                Ok(()) => return Ok(attempt),
                Err(Refusal::Throttled { retry_after_s }) => {
                    return Err(Fault::Throttled { retry_after_s });
                }
                Err(Refusal::Busy) => ended.await,
            }
        }
    }

    fn take(&self, attempt: &Attempt, now: Timestamp) -> Result<(), Refusal> {
        let Attempt { account, peer, stranger } = attempt;
        if let Some(peer) = peer {
            self.peers.take(*peer, now)?;
        }
        let here = (account.clone(), *peer);
        let taken = self.accounts.take(here.clone(), now).and_then(|()| {
            let all = if *stranger { self.strangers.take(account.clone(), now) } else { Ok(()) };
            all.inspect_err(|_| self.accounts.end(&here, false))
        });
        taken.inspect_err(|_| {
            if let Some(peer) = peer {
                self.peers.end(peer, false);
            }
        })
    }

    /// Lets a registration through and counts it, or says when to come again.
    pub fn registration(&self, peer: Option<IpAddr>, now: Timestamp) -> Result<(), Fault> {
        let Some(peer) = peer.map(network) else { return Ok(()) };
        match self.registrations.take(peer, now) {
            Err(Refusal::Throttled { retry_after_s }) => Err(Fault::Throttled { retry_after_s }),
            // None is in flight for longer than this.
            Ok(()) | Err(Refusal::Busy) => {
                self.registrations.end(&peer, true);
                Ok(())
            }
        }
    }

    /// The attempt failed: it counts.
    pub fn failed(&self, attempt: &Attempt) {
        self.end(attempt, true);
    }

    /// The attempt was not judged: it does not count.
    pub fn forgive(&self, attempt: &Attempt) {
        self.end(attempt, false);
    }

    /// The attempt succeeded: it does not count, and its peer is no stranger from here on.
    pub fn succeeded(&self, attempt: &Attempt) {
        if let Some(peer) = attempt.peer {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            // Forgetting all is simple, and costs nothing but the preference.
            if known.len() >= self.known_max {
                known.clear();
            }
            known.insert((attempt.account.clone(), peer));
        }
        self.end(attempt, false);
    }

    fn knows(&self, account: &str, peer: IpAddr) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(&(account.to_owned(), peer))
    }

    fn end(&self, attempt: &Attempt, counts: bool) {
        let Attempt { account, peer, stranger } = attempt;
        if let Some(peer) = peer {
            self.peers.end(peer, counts);
        }
        self.accounts.end(&(account.clone(), *peer), counts);
        if *stranger {
            self.strangers.end(account, counts);
        }
        self.ended.notify_waiters();
    }
}

/// What one subscriber of an IPv6 provider has to himself is a /64, not an address.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default().plus(Duration::from_secs(seconds))
    }

    fn options() -> ThrottleOptions {
        ThrottleOptions {
            account_burst: 2,
            account_refill_s: 10,
            stranger_burst: 4,
            stranger_refill_s: 10,
            peer_burst: 3,
            peer_refill_s: 1,
            register_burst: 2,
            register_refill_s: 5,
            entries_max: 100,
        }
    }

    fn peer(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    /// A failed login, at once.
    fn fail(
        throttle: &Throttle,
        account: &str,
        peer: Option<IpAddr>,
        seconds: u64,
    ) -> Result<(), Fault> {
        let attempt = throttle.attempt(account, peer, at(seconds));
        let attempt = attempt.now_or_never().expect("nothing is in flight")?;
        throttle.failed(&attempt);
        Ok(())
    }

    fn throttled(retry_after_s: u64) -> Result<(), Fault> {
        Err(Fault::Throttled { retry_after_s })
    }

    #[test]
    fn an_account_is_throttled_and_comes_back() {
        let throttle = Throttle::new(options());
        let fail = |account, seconds| fail(&throttle, account, None, seconds);
        assert!(fail("a", 0).is_ok() && fail("a", 0).is_ok());
        assert_eq!(fail("a", 1), throttled(9));
        assert!(fail("b", 1).is_ok());
        assert!(fail("a", 10).is_ok());
        assert!(fail("a", 11).is_err());
        // A success gives its attempt back.
        let attempt = throttle.attempt("a", None, at(20)).now_or_never().unwrap().unwrap();
        throttle.succeeded(&attempt);
        assert!(fail("a", 20).is_ok());
    }

    #[test]
    fn a_peer_is_throttled_over_all_its_accounts_and_addresses() {
        let throttle = Throttle::new(options());
        let v6 = |last| Some(IpAddr::from([1, 2, 3, 4, 0, 0, 0, last]));
        for account in 0..3 {
            assert!(fail(&throttle, &account.to_string(), v6(account), 0).is_ok());
        }
        assert_eq!(fail(&throttle, "9", v6(9), 0), throttled(1));
        assert!(fail(&throttle, "9", Some(IpAddr::from([127, 0, 0, 1])), 0).is_ok());
        assert!(fail(&throttle, "9", v6(9), 1).is_ok());
    }

    #[test]
    fn strangers_are_throttled_together_and_the_owner_is_not_slowed_by_them() {
        let throttle = Throttle::new(options());
        let owner = throttle.attempt("a", peer(0), at(0)).now_or_never().unwrap().unwrap();
        throttle.succeeded(&owner);
        for stranger in 1..5 {
            assert!(fail(&throttle, "a", peer(stranger), 0).is_ok());
        }
        assert_eq!(fail(&throttle, "a", peer(5), 0), throttled(10));
        assert!(
            fail(&throttle, "a", peer(0), 0).is_ok() && fail(&throttle, "a", peer(0), 0).is_ok()
        );
        assert_eq!(fail(&throttle, "a", peer(0), 0), throttled(10), "nor may it fail for ever");
        assert!(fail(&throttle, "b", peer(5), 0).is_ok());
    }

    #[test]
    fn a_burst_of_zero_turns_a_limit_off() {
        let off = ThrottleOptions { peer_burst: 0, register_burst: 0, ..options() };
        let throttle = Throttle::new(off);
        for account in 0..50 {
            assert!(fail(&throttle, &account.to_string(), peer(1), 0).is_ok());
            assert!(throttle.registration(peer(1), at(0)).is_ok());
        }
    }

    #[test]
    fn whoever_comes_while_others_are_in_flight_waits_for_them() {
        let throttle = Throttle::new(options());
        let attempt = || Box::pin(throttle.attempt("a", peer(1), at(0)));
        let first = attempt().now_or_never().unwrap().unwrap();
        let second = attempt().now_or_never().unwrap().unwrap();
        let (mut third, mut fourth) = (attempt(), attempt());
        assert!((&mut third).now_or_never().is_none() && (&mut fourth).now_or_never().is_none());
        throttle.succeeded(&first);
        let third = third.now_or_never().expect("there is room now").unwrap();
        throttle.failed(&second);
        assert!((&mut fourth).now_or_never().is_none(), "the third may yet succeed");
        throttle.failed(&third);
        let fourth = fourth.now_or_never().expect("nothing is in flight any more");
        assert_eq!(fourth.map(drop), throttled(10));
    }

    #[test]
    fn registrations_of_a_peer_are_throttled_apart_from_its_logins() {
        let throttle = Throttle::new(options());
        for _ in 0..2 {
            assert_eq!(throttle.registration(peer(1), at(0)), Ok(()));
        }
        assert_eq!(throttle.registration(peer(1), at(1)), throttled(4));
        assert!(throttle.registration(peer(2), at(1)).is_ok());
        assert!(fail(&throttle, "a", peer(1), 1).is_ok());
        assert!(throttle.registration(peer(1), at(5)).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_the_worst_are_remembered() {
        let throttle = Throttle::new(options());
        for _ in 0..2 {
            assert!(fail(&throttle, "worst", None, 0).is_ok());
        }
        for account in 0..1_000 {
            assert!(fail(&throttle, &account.to_string(), None, 0).is_ok());
            let entries = throttle.accounts.entries.lock().unwrap().len();
            assert!(entries <= 100, "{entries} entries after {account}");
        }
        assert!(fail(&throttle, "worst", None, 0).is_err());
    }
}
