//! Deadlines of calls. The transport's own answer CANCELLED when one is over, which the
//! original's clients take for an end; DEADLINE_EXCEEDED they retry.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

/// How much earlier than the transport's own timer this one is.
const EARLIER: Duration = Duration::from_millis(5);

/// Bounds the time until a call's answer begins, by the caller's deadline and an option.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeadlineLayer {
    pub(super) longest: Duration,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner, longest: self.longest }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Deadline<S> {
    inner: S,
    longest: Duration,
}

impl<S> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let asked = asked(request.headers()).map(|asked| asked.saturating_sub(EARLIER));
        let allowed = asked.map_or(self.longest, |asked| asked.min(self.longest));
        let answer = tokio::time::timeout(allowed, self.inner.call(request));
        answer
            .map(|answer| {
                answer.unwrap_or_else(|_| {
                    let text = "the deadline is over; what was begun is carried out all the same";
                    Ok(Status::deadline_exceeded(text).into_http())
                })
            })
            .boxed()
    }
}

/// The deadline that a call bears: up to 8 digits and a unit.
pub(crate) fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_has_them() {
        for (text, expected) in [
            ("2S", Some(Duration::from_secs(2))),
            ("1999987u", Some(Duration::from_micros(1_999_987))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("5m", Some(Duration::from_millis(5))),
            ("100000000n", None),
            ("5", None),
            ("S", None),
            ("", None),
            ("5x", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(asked(&headers), expected, "{text:?}");
        }
        assert_eq!(asked(&HeaderMap::new()), None);
    }
}
