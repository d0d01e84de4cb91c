//! Who may act over a connection: the original's clients log in and bear no token.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::UserId;
use crate::server::store::{Account, PasswordMark};

/// Accounts authorised on one connection at most; the first ones go first.
/// A gateway that carries all users of the original over one connection must fit.
const USERS_MAX: usize = 65_536;

/// The accounts that were authorised on a connection, each as long as it has the password that it
/// had then: a new one ends the authorisation everywhere without being told to any connection. So
/// does a deletion, because account ids are never used again.
#[derive(Debug, Default)]
pub(crate) struct Authorised(Mutex<Users>);

#[derive(Debug, Default)]
struct Users {
    held: HashMap<UserId, Option<PasswordMark>>,
    /// The same, by when they came.
    order: VecDeque<UserId>,
    /// Logins and registrations under way.
    begun: usize,
    /// The connection takes no more of them.
    closed: bool,
}

/// A login or a registration under way: its connection stays.
#[derive(Debug)]
pub(crate) struct Begun(Arc<Authorised>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.users().begun -= 1;
    }
}

impl Authorised {
    /// Authorises an account for the rest of the connection.
    pub(crate) fn add(&self, account: &Account) {
        let user = account.user;
        let mut users = self.users();
        if users.held.insert(user, account.password()).is_some() {
            return;
        }
        users.order.push_back(user);
        if users.order.len() > USERS_MAX
            && let Some(first) = users.order.pop_front()
        {
            users.held.remove(&first);
        }
    }

    /// Whether an account was authorised.
    pub(crate) fn holds(&self, account: &Account) -> bool {
        let users = self.users();
        users.held.get(&account.user).is_some_and(|held| *held == account.password())
    }

    /// A login or a registration begins; `None`: the connection is about to end, and the login
    /// would with it.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Begun> {
        let mut users = self.users();
        if users.closed {
            return None;
        }
        users.begun += 1;
        Some(Begun(Arc::clone(self)))
    }

    /// Takes no more logins, if none is held or under way. Returns whether that is so.
    pub(crate) fn close(&self) -> bool {
        let mut users = self.users();
        users.closed |= users.held.is_empty() && users.begun == 0;
        users.closed
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::store::Role;

    fn account(user: u32, hash: &str) -> Account {
        Account {
            user: UserId(user),
            email: "ann@example.com".parse().unwrap(),
            role: Role::User,
            password_hash: Some(hash.to_owned()),
        }
    }

    #[test]
    fn a_connection_ends_only_without_a_login() {
        let users = Arc::new(Authorised::default());
        let begun = users.begin().unwrap();
        assert!(!users.close(), "a login is under way");
        drop(begun);
        let begun = users.begin().unwrap();
        users.add(&account(1, "hash"));
        drop(begun);
        assert!(!users.close(), "a login is held");

        let users = Arc::new(Authorised::default());
        drop(users.begin());
        assert!(users.close(), "that login failed");
        assert!(users.begin().is_none() && users.close());
    }

    #[test]
    fn a_connection_holds_what_was_added_within_its_bound() {
        let users = Authorised::default();
        for user in 0..=65_536 {
            users.add(&account(user, "old"));
            users.add(&account(user, "old"));
        }
        let holds = |user| users.holds(&account(user, "old"));
        assert!(!holds(0) && holds(1) && holds(65_536));
        assert!(!users.holds(&account(1, "new")), "the password was changed");
        users.add(&account(1, "new"));
        assert!(users.holds(&account(1, "new")) && !holds(1));
    }
}
