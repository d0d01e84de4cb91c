//! How many files the process may have open: each connection takes one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Settings;

/// Files that are open without any connection: the store, the log, timers and pipes, mail and
/// market connections.
const OTHERS: u64 = 128;

/// Raises the soft limit to the hard one, and warns if the connections do not fit all the same.
pub(super) fn raise(settings: &Settings) {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => before.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files can't be raised");
            before.current
        }
    };
    let connections =
        settings.server.grpc.connections_max.saturating_add(settings.server.http.connections_max);
    if let Some(limit) = too_low(limit, connections) {
        tracing::warn!(
            limit,
            connections,
            "fewer files may be open than there may be connections: raise the limit (ulimit -n), \
             or lower server.grpc.connections_max"
        );
    }
}

/// The limit, if that many connections do not fit into it. None is no limit.
fn too_low(limit: Option<u64>, connections: usize) -> Option<u64> {
    let needed = (connections as u64).saturating_add(OTHERS);
    limit.filter(|limit| *limit < needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_must_fit_beside_the_other_files() {
        for (limit, connections, expected) in [
            (None, usize::MAX, None),
            (Some(1_024), 1_024, Some(1_024)),
            (Some(1_024), 896, None),
            (Some(1_024), 897, Some(1_024)),
        ] {
            assert_eq!(too_low(limit, connections), expected, "{limit:?} {connections}");
        }
    }
}
