//! Crash points: places at which a debug build dies when a test asks for it.
//!
//! `TRIPLINE_FAILPOINT=NAME` kills the process when it first comes to the point of that name,
//! `NAME:3` when it comes there for the third time. A release build has none of this.

/// Dies here if the environment says so. The names are listed in `ARCHITECTURE.md`.
#[inline]
pub fn hit(name: &str) {
    #[cfg(debug_assertions)]
    armed::hit(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Armed {
        name: String,
        left: AtomicU32,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var("TRIPLINE_FAILPOINT").ok()?;
        let (name, count) = match text.rsplit_once(':') {
            Some((name, count)) => (name.to_owned(), count.parse().ok()?),
            None => (text, 1),
        };
        Some(Armed { name, left: AtomicU32::new(count) })
    });

    pub(super) fn hit(name: &str) {
        if let Some(armed) = &*ARMED
            && armed.name == name
            && armed.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            // No destructor runs and nothing is flushed: as with SIGKILL.
            std::process::abort();
        }
    }
}
