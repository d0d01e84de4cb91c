//! Identities and positions: numbers that must not be mixed up.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A watch. Ids grow and are never used again.
    WatchId(u64)
);
number!(
    /// A user account. Ids grow and are never used again.
    UserId(u32)
);
number!(
    /// How often a watch was changed: 1 when created, raised by one with every change.
    Version(u32)
);
number!(
    /// The place of a record in one partition of a topic; the first record has 0.
    Offset(u64)
);
number!(
    /// A partition of a topic, counted from 0.
    Partition(u32)
);
number!(
    /// The count of owners that a partition has had. Only the newest may commit.
    Epoch(u64)
);
number!(
    /// The place of an alert among those of one partition of ticks, counted from 1.
    AlertSeq(u64)
);

impl Offset {
    /// The offset of the record after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Version {
    /// The version of a watch that was just created.
    pub const FIRST: Self = Self(1);

    /// The version after one more change.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
