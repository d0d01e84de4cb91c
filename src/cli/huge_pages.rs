//! Huge pages: whether memory may come 2 MiB at a time where the allocator asks for it.

/// Allows them from now on, or not any more.
#[cfg(target_os = "linux")]
pub(super) fn allow(allowed: bool) {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(!allowed) {
        tracing::warn!(%error, allowed, "graph.huge_pages has no effect");
    }
}

/// Other systems are not asked.
#[cfg(not(target_os = "linux"))]
pub(super) fn allow(_allowed: bool) {}
