//! Who may act over a connection: the original's clients log in and bear no token.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::model::UserId;

/// Accounts authorised on one connection at most; the first ones go first.
const USERS_MAX: usize = 1_024;

/// The accounts that were authorised on a connection. Account ids are never used again, so a
/// deletion ends the authorisation everywhere without being told to any connection.
#[derive(Debug, Default)]
pub(crate) struct Authorised(Mutex<VecDeque<UserId>>);

impl Authorised {
    /// Authorises an account for the rest of the connection.
    pub(crate) fn add(&self, user: UserId) {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !users.contains(&user) {
            if users.len() >= USERS_MAX {
                users.pop_front();
            }
            users.push_back(user);
        }
    }

    /// Whether an account was authorised.
    pub(crate) fn holds(&self, user: UserId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_holds_what_was_added_within_its_bound() {
        let users = Authorised::default();
        for user in 0..=1_024 {
            users.add(UserId(user));
            users.add(UserId(user));
        }
        assert!(!users.holds(UserId(0)) && users.holds(UserId(1)) && users.holds(UserId(1_024)));
    }
}
