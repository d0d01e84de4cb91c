//! Roles: the nodes that run in a process.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Serves both gRPC APIs.
    Server,
    /// Fetches prices.
    Collector,
    /// Turns ticks into alerts.
    Evaluator,
    /// Turns alerts into mails.
    Notifier,
    /// Creates topics, reports on them, and sweeps what has outlived its age.
    Admin,
}

impl Role {
    const ALL: [Self; 5] =
        [Self::Server, Self::Collector, Self::Evaluator, Self::Notifier, Self::Admin];

    /// The word that names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Collector => "collector",
            Self::Evaluator => "evaluator",
            Self::Notifier => "notifier",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The roles of a process: at least one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    /// Every role.
    pub fn all() -> Self {
        Self(Role::ALL.into())
    }

    /// Whether this role is among them.
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }
}

/// A text that names no roles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected all, or a list of server, collector, evaluator, notifier and admin, found {0:?}")]
pub struct RolesError(String);

impl FromStr for Roles {
    type Err = RolesError;

    fn from_str(text: &str) -> Result<Self, RolesError> {
        if text == "all" {
            return Ok(Self::all());
        }
        let role = |name: &str| {
            Role::ALL
                .into_iter()
                .find(|role| role.as_str() == name)
                .ok_or_else(|| RolesError(name.to_owned()))
        };
        Ok(Self(text.split(',').map(role).collect::<Result<_, _>>()?))
    }
}

impl TryFrom<String> for Roles {
    type Error = RolesError;

    fn try_from(text: String) -> Result<Self, RolesError> {
        text.parse()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|role| role.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_all_or_a_list() {
        assert_eq!("all".parse(), Ok(Roles::all()));
        let two: Roles = "notifier,evaluator".parse().unwrap();
        assert!(two.has(Role::Notifier) && !two.has(Role::Server));
        assert_eq!(two.to_string(), "evaluator,notifier");
        for bad in ["", "all,server", "servers", "server, admin"] {
            assert!(bad.parse::<Roles>().is_err(), "{bad:?}");
        }
    }
}
