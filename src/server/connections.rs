//! Serves connections, each until its age is over. Services balance connections, not calls: new
//! replicas get their share only when clients connect anew.

use std::future::{Future, Ready, ready};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::incoming::{Connection, Incoming, Life};
use crate::pipeline::clock::{Clock, Random};

/// Between the end that streams are told of, and that of whatever takes no notice of it.
const TOLD: Duration = Duration::from_secs(5);

/// How long connections live.
#[derive(Clone)]
pub(super) struct Age {
    /// A connection is asked to end after this time or up to half of it earlier, so that not all
    /// end together; `None`: never.
    pub(super) max: Option<Duration>,
    /// How long its calls and streams go on after that.
    pub(super) grace: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
}

impl Age {
    /// Ends a connection when its time has come: `asked` to take no more calls, streams told,
    /// what is left cut off.
    async fn end(&self, life: &Life, asked: &CancellationToken) {
        let Some(max) = self.max else { return };
        loop {
            self.clock.sleep(self.random.jitter(max)).await;
            // One that carries a login of the original's API would lose it.
            if life.authorised.close() {
                break;
            }
        }
        asked.cancel();
        self.clock.sleep(self.grace).await;
        life.ending.cancel();
        self.clock.sleep(TOLD).await;
        life.cut.cancel();
    }
}

/// What the transport serves: one connection, and no end, which it would take for a wish to stop.
pub(super) type Alone = stream::Chain<
    stream::Once<Ready<io::Result<Connection>>>,
    stream::Pending<io::Result<Connection>>,
>;

/// Serves connections until `stop`, and then until the last one has ended. `serve` is the
/// transport: it asks its connection to end when it is told to, and returns when it has.
///
/// One transport for each, because it has one way only to ask for an end: all together.
pub(super) async fn serve_each<F, E>(
    incoming: Incoming,
    age: Age,
    stop: CancellationToken,
    serve: impl Fn(Alone, CancellationToken) -> F,
) where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let tracker = TaskTracker::new();
    loop {
        let connection = tokio::select! {
            () = stop.cancelled() => break,
            connection = incoming.next() => connection,
        };
        // The listener has said why.
        let Ok(connection) = connection else { continue };
        let (life, asked) = (connection.life(), CancellationToken::new());
        let served =
            serve(stream::once(ready(Ok(connection))).chain(stream::pending()), asked.clone());
        tracker.spawn(serve_one(served, life, asked, age.clone(), stop.clone()));
    }
    // Whoever connects now is refused at once.
    drop(incoming);
    tracker.close();
    tracker.wait().await;
}

async fn serve_one<E: std::fmt::Display>(
    served: impl Future<Output = Result<(), E>>,
    life: Life,
    asked: CancellationToken,
    age: Age,
    stop: CancellationToken,
) {
    let over = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = life.closed.cancelled() => {}
        }
        asked.cancel();
    };
    let (served, _, ()) = tokio::join!(
        served,
        // Nothing of it is left to wait for once the connection is closed.
        life.closed.run_until_cancelled(age.end(&life, &asked)),
        over,
    );
    if let Err(error) = served {
        tracing::debug!(%error, "a connection failed");
    }
}
