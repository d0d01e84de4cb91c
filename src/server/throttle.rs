//! Throttling of logins, per account and per peer, and of registrations, per peer, in bounded
//! memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::model::Timestamp;

use super::fault::Fault;

/// How many failed logins and how many registrations are let through. A login that succeeds
/// does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleOptions {
    /// Failed logins of one account in a row.
    pub account_burst: u32,
    /// Seconds after which one more of an account is let through.
    pub account_refill_s: u32,
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
    accounts: Buckets<String>,
    peers: Buckets<IpAddr>,
    registrations: Buckets<IpAddr>,
}

/// An attempt that was let through and counts until it is known to have succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    account: String,
    peer: Option<IpAddr>,
}

impl Throttle {
    /// A throttle of which nobody has used anything.
    pub fn new(options: ThrottleOptions) -> Self {
        let max = options.entries_max.max(1);
        Self {
            accounts: Buckets::new(options.account_burst, options.account_refill_s, max),
            peers: Buckets::new(options.peer_burst, options.peer_refill_s, max),
            registrations: Buckets::new(options.register_burst, options.register_refill_s, max),
        }
    }

    /// Lets an attempt through and counts it, or says when to come again; then it counts not.
    pub fn attempt(
        &self,
        account: &str,
        peer: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Attempt, Fault> {
        let attempt = Attempt { account: account.to_owned(), peer: peer.map(network) };
        if let Some(peer) = attempt.peer {
            self.peers.take(peer, now)?;
        }
        if let Err(fault) = self.accounts.take(attempt.account.clone(), now) {
            if let Some(peer) = attempt.peer {
                self.peers.give_back(&peer);
            }
            return Err(fault);
        }
        Ok(attempt)
    }

    /// Lets a registration through and counts it, or says when to come again.
    pub fn registration(&self, peer: Option<IpAddr>, now: Timestamp) -> Result<(), Fault> {
        peer.map_or(Ok(()), |peer| self.registrations.take(network(peer), now))
    }

    /// The attempt succeeded, or was not judged: it does not count.
    pub fn forgive(&self, attempt: &Attempt) {
        self.accounts.give_back(&attempt.account);
        if let Some(peer) = &attempt.peer {
            self.peers.give_back(peer);
        }
    }
}

/// What one subscriber of an IPv6 provider has to himself is a /64, not an address.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        v4 => v4,
    }
}

/// One bucket per key, as the generic cell rate algorithm has it: all that is kept of a key is
/// the instant at which its bucket is full again, so an unknown key is a full bucket.
#[derive(Debug)]
struct Buckets<K> {
    interval_ms: i64,
    burst: i64,
    entries_max: usize,
    full_at: Mutex<HashMap<K, i64>>,
}

impl<K: Eq + std::hash::Hash + Clone> Buckets<K> {
    fn new(burst: u32, refill_s: u32, entries_max: usize) -> Self {
        Self {
            interval_ms: i64::from(refill_s.max(1)) * 1_000,
            burst: i64::from(burst.max(1)),
            entries_max,
            full_at: Mutex::default(),
        }
    }

    fn take(&self, key: K, now: Timestamp) -> Result<(), Fault> {
        let now = now.millis();
        let mut entries = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.entries_max && !entries.contains_key(&key) {
            self.forget(&mut entries, now);
        }
        let full_at = entries.get(&key).map_or(now, |full_at| (*full_at).max(now));
        let next = full_at + self.interval_ms;
        let wait_ms = next - now - self.burst * self.interval_ms;
        if wait_ms > 0 {
            let retry_after_s = u64::try_from(wait_ms).unwrap_or(0).div_ceil(1_000);
            return Err(Fault::Throttled { retry_after_s });
        }
        entries.insert(key, next);
        Ok(())
    }

    fn give_back(&self, key: &K) {
        let mut entries = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_at) = entries.get_mut(key) {
            *full_at -= self.interval_ms;
        }
    }

    /// Makes room: full buckets go first, then the fuller half of the others.
    fn forget(&self, entries: &mut HashMap<K, i64>, now: i64) {
        entries.retain(|_, full_at| *full_at > now);
        if entries.len() * 2 > self.entries_max {
            let mut times: Vec<i64> = entries.values().copied().collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            // Entries with equal times: half of them must go all the same.
            let mut equal_left = entries.len() / 4;
            entries.retain(|_, full_at| {
                let keep = *full_at > median || (*full_at == median && equal_left > 0);
                equal_left -= usize::from(keep && *full_at == median);
                keep
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default().plus(Duration::from_secs(seconds))
    }

    fn throttle(entries_max: usize) -> Throttle {
        Throttle::new(ThrottleOptions {
            account_burst: 2,
            account_refill_s: 10,
            peer_burst: 3,
            peer_refill_s: 1,
            register_burst: 2,
            register_refill_s: 5,
            entries_max,
        })
    }

    #[test]
    fn an_account_is_throttled_and_comes_back() {
        let throttle = throttle(10);
        let attempt = |account, seconds| throttle.attempt(account, None, at(seconds));
        assert!(attempt("a", 0).is_ok() && attempt("a", 0).is_ok());
        assert_eq!(attempt("a", 1), Err(Fault::Throttled { retry_after_s: 9 }));
        assert!(attempt("b", 1).is_ok());
        assert!(attempt("a", 10).is_ok());
        assert!(attempt("a", 11).is_err());
        // A success gives its attempt back.
        throttle.forgive(&Attempt { account: "a".to_owned(), peer: None });
        assert!(attempt("a", 11).is_ok());
    }

    #[test]
    fn a_peer_is_throttled_over_all_its_accounts_and_addresses() {
        let throttle = throttle(10);
        let v6 = |last| Some(IpAddr::from([1, 2, 3, 4, 0, 0, 0, last]));
        for account in 0..3 {
            assert!(throttle.attempt(&account.to_string(), v6(account), at(0)).is_ok());
        }
        assert_eq!(throttle.attempt("9", v6(9), at(0)), Err(Fault::Throttled { retry_after_s: 1 }));
        assert!(throttle.attempt("9", Some(IpAddr::from([127, 0, 0, 1])), at(0)).is_ok());
        assert!(throttle.attempt("9", v6(9), at(1)).is_ok());
    }

    #[test]
    fn registrations_of_a_peer_are_throttled_apart_from_its_logins() {
        let throttle = throttle(10);
        let peer = Some(IpAddr::from([127, 0, 0, 1]));
        for _ in 0..2 {
            assert_eq!(throttle.registration(peer, at(0)), Ok(()));
        }
        assert_eq!(throttle.registration(peer, at(1)), Err(Fault::Throttled { retry_after_s: 4 }));
        assert!(throttle.registration(Some(IpAddr::from([127, 0, 0, 2])), at(1)).is_ok());
        assert!(throttle.attempt("a", peer, at(1)).is_ok());
        assert!(throttle.registration(peer, at(5)).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_the_worst_are_remembered() {
        let throttle = throttle(100);
        for _ in 0..2 {
            assert!(throttle.attempt("worst", None, at(0)).is_ok());
        }
        for account in 0..1_000 {
            assert!(throttle.attempt(&account.to_string(), None, at(0)).is_ok());
            let entries = throttle.accounts.full_at.lock().unwrap().len();
            assert!(entries <= 100, "{entries} entries after {account}");
        }
        assert!(throttle.attempt("worst", None, at(0)).is_err());
    }
}
