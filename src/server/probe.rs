//! A bound for the streams that anybody may open, because they need no login: those of health and
//! reflection.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tower::Service;

use super::incoming::ConnInfo;

/// The one call of these services that is no stream, and ends by itself.
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// How many may be open at the same time.
#[derive(Clone, Debug)]
pub(super) struct ProbeStreams {
    open: Arc<AtomicUsize>,
    max: usize,
    per_connection_max: usize,
}

impl ProbeStreams {
    pub(super) fn new(max: usize, per_connection_max: usize) -> Self {
        Self { open: Arc::default(), max, per_connection_max }
    }

    /// A service whose streams are counted with those of the others that share this bound.
    pub(super) fn bound<S>(&self, inner: S) -> Bounded<S> {
        Bounded { inner, streams: self.clone() }
    }

    /// Places in all and on the connection, until they are dropped.
    fn take(&self, connection: Option<&ConnInfo>) -> Result<[Option<Place>; 2], Status> {
        let full = |what, max| {
            let text = format!("expected at most {max} open streams of health and reflection");
            Status::resource_exhausted(format!("{text} {what}: close one, and try again"))
        };
        let own = connection.map(|connection| {
            Place::take(connection.probe_streams(), self.per_connection_max)
                .ok_or_else(|| full("on a connection", self.per_connection_max))
        });
        let own = own.transpose()?;
        let any = Place::take(&self.open, self.max).ok_or_else(|| full("in all", self.max))?;
        Ok([own, Some(any)])
    }
}

/// One of those that a count stands for.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let more = |open| (open < max).then_some(open + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A service whose streams are bounded.
#[derive(Clone, Debug)]
pub(super) struct Bounded<S> {
    inner: S,
    streams: ProbeStreams,
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() == CHECK {
            return self.inner.call(request).boxed();
        }
        let places = match self.streams.take(request.extensions().get::<ConnInfo>()) {
            Ok(places) => places,
            Err(status) => return std::future::ready(Ok(status.into_http())).boxed(),
        };
        let answer = self.inner.call(request);
        async move {
            // The stream lives as long as its body, and no frame of it outlives its places.
            Ok(answer.await?.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _held = &places;
                    frame
                }))
            }))
        }
        .boxed()
    }
}
