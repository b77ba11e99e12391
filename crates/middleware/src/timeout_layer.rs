//! # Time limit layer: TimeoutLayer
//!
//! A request has 100 ms. tower's `TimeoutLayer` starts its clock in `call`, and a service that is full
//! makes its callers wait before that, in `poll_ready`. So under a limit of one at a time the tenth
//! caller waits for nine others, gets its answer after 800 ms, and no limit has struck. This layer
//! moves the wait into the call, where the clock sees it.
//!
//! ## Use it when
//! - a request must have an answer or an error by a given time, whatever it waited for.
//!
//! ## Use something else when
//! - the limit has to be named in the error, or what is left of it passed on: `deadline`;
//! - the service is called in one place only: `tokio::time::timeout(limit, service.oneshot(request))`;
//! - the question is where in a stack it belongs: `stack`.
//!
//! ## Add to your project
//! ```console
//! cargo add pin-project-lite
//! cargo add tokio --features time
//! cargo add tower --features timeout,util
//! ```
//!
//! ## Watch out
//! - tower's own, outside of a concurrency limit or inside, leaves out the wait for a place: shown in
//!   `limit_outside_timeout`.
//! - tower's own never strikes on work that uses up its task's budget in each turn, a loop on a channel
//!   that is never empty say: its timer gets no unit of it. tokio's `timeout`, used here, does.
//! - The error is a box, as the service's own errors are: ask [`is_elapsed`]. It is tower's `Elapsed`;
//!   to look for tokio's of the same name finds nothing. Of two limits, one in the other, it does not
//!   tell which struck.
//! - The service's future is dropped, and its work stops at its await. What it spawned runs on.
//! - The limit ends with the response. What is read from it later, a body say, has none.
//! - It takes every request, however many wait: a `LoadShedLayer` above it never sheds. Put what
//!   refuses callers below it.
//! - The clock runs from `call`, not from the first poll: a call that is made and left lying is over
//!   when somebody awaits it.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Timeout, timeout};
use tower::timeout::error::Elapsed;
use tower::util::Oneshot;
use tower::{BoxError, Layer, Service};

/// Gives each request so much time, counted from the call to the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimitLayer {
    limit: Duration,
}

impl TimeLimitLayer {
    /// A response that comes in the very moment in which the time is over is still one.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for TimeLimitLayer {
    type Service = TimeLimit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let limit = self.limit;
        TimeLimit { inner, limit }
    }
}

/// A service that takes each request at once, and waits in the call, within the limit, until its inner
/// service is ready and has answered.
///
/// Each call has a clone of the inner service, and drops it if the wait is given up: what the clone
/// had waited for, or was about to get, is free again.
#[derive(Debug, Clone)]
pub struct TimeLimit<S> {
    inner: S,
    limit: Duration,
}

impl<S, R> Service<R> for TimeLimit<S>
where
    S: Service<R> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = TimeLimitFuture<Oneshot<S, R>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(())) // to ask `inner` would reserve a place that no call uses
    }

    fn call(&mut self, request: R) -> Self::Future {
        let call = Oneshot::new(self.inner.clone(), request);
        TimeLimitFuture {
            call: timeout(self.limit, call),
        }
    }
}

pin_project! {
    /// A call of [`TimeLimit`].
    #[derive(Debug)]
    pub struct TimeLimitFuture<F> {
        #[pin]
        call: Timeout<F>,
    }
}

impl<F, T, E> Future for TimeLimitFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.project().call.poll(cx)) {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(Elapsed::new().into()), // tower's, as its own layer would
        })
    }
}

/// Whether this limit struck, or one of tower's: `error` is an [`Elapsed`], or one of its sources is.
#[must_use]
pub fn is_elapsed(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<Elapsed>() {
            return true;
        }
        next = error.source();
    }
    false
}
