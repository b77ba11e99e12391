//! # Time limit layer: TimeoutLayer
//!
//! A request has 100 ms. tower's `TimeoutLayer` starts its clock in `call`, and a service that is full
//! makes its callers wait before that, in `poll_ready`. So under a limit of one at a time the tenth
//! caller waits for nine others, gets its answer after 800 ms, and no limit has struck. This layer
//! moves the wait into the call, where tower's clock sees it.
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
//! cargo add tower --features timeout,util
//! ```
//!
//! ## Watch out
//! - tower's own, outside of a concurrency limit or inside, leaves out the wait for a place: shown in
//!   `limit_outside_timeout`.
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
use std::task::{Context, Poll};
use std::time::Duration;

use tower::timeout::{Timeout, error::Elapsed};
use tower::util::Oneshot;
use tower::{Layer, Service};

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
    type Service = Timeout<WaitInCall<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        Timeout::new(WaitInCall { inner }, self.limit)
    }
}

/// A service that takes each request at once, and waits in the call until its inner service is ready.
///
/// Each call has a clone of the inner service, and drops it if the wait is given up: what the clone
/// had waited for, or was about to get, is free again.
#[derive(Debug, Clone)]
pub struct WaitInCall<S> {
    inner: S,
}

impl<S, R> Service<R> for WaitInCall<S>
where
    S: Service<R> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Oneshot<S, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(())) // to ask `inner` would reserve a place that no call uses
    }

    fn call(&mut self, request: R) -> Self::Future {
        Oneshot::new(self.inner.clone(), request)
    }
}

/// Whether a time limit of tower's struck: `error` is an [`Elapsed`], or one of its sources is.
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
