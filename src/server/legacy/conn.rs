//! Who may act over a connection: the original's clients log in and bear no token.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::model::UserId;

/// Accounts authorised on one connection at most; the first ones go first.
/// A gateway that carries all users of the original over one connection must fit.
const USERS_MAX: usize = 65_536;

/// The accounts that were authorised on a connection. Account ids are never used again, so a
/// deletion ends the authorisation everywhere without being told to any connection.
#[derive(Debug, Default)]
pub(crate) struct Authorised(Mutex<Users>);

#[derive(Debug, Default)]
struct Users {
    held: HashSet<UserId>,
    /// The same, by when they came.
    order: VecDeque<UserId>,
}

impl Authorised {
    /// Authorises an account for the rest of the connection.
    pub(crate) fn add(&self, user: UserId) {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !users.held.insert(user) {
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
    pub(crate) fn holds(&self, user: UserId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).held.contains(&user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_holds_what_was_added_within_its_bound() {
        let users = Authorised::default();
        for user in 0..=65_536 {
            users.add(UserId(user));
            users.add(UserId(user));
        }
        assert!(!users.holds(UserId(0)) && users.holds(UserId(1)) && users.holds(UserId(65_536)));
    }
}
