//! # Readiness that is lost: `self.inner.clone()` in `call`
//!
//! A middleware of tower awaits something before it calls the inner service: a token, a lookup. Its
//! future must not borrow `self`, so it takes a clone along. The one that `poll_ready` asked stays
//! behind, with the place that it was given, and the clone is called without having been asked.
//!
//! ## You have it when
//! - all is well until somebody adds a limit, a buffer or load shedding below;
//! - then requests panic: `max requests in-flight; poll_ready must be called first` says a limit, and
//!   `` `send_item` called without first calling `poll_reserve` `` a buffer;
//! - or an idle service refuses each of them: `service overloaded`.
//!
//! ## What it does to you
//! - Over a concurrency limit or a buffer the first request panics.
//! - Over load shedding the first request is refused, and so is every other, whatever the load.
//! - The place that was reserved is used by nobody, and kept from all others.
//!
//! ## Use instead
//! - `service`: its `Prepare` is this middleware, and `take_ready` the line that is wrong here. It
//!   takes the one that is ready and leaves the clone;
//! - `layer`, for the wrapper around any service.

use std::pin::Pin;
use std::task::{Context, Poll};

use tower::Service;

/// Awaits `authorize` before each request.
#[derive(Debug, Clone)]
pub struct Authorized<S, A> {
    inner: S,
    authorize: A,
}

impl<S, A> Authorized<S, A> {
    /// Wraps `inner`.
    pub const fn new(inner: S, authorize: A) -> Self {
        Self { inner, authorize }
    }
}

impl<S, A, F, R> Service<R> for Authorized<S, A>
where
    S: Service<R, Future: Send> + Clone + Send + 'static,
    A: FnMut() -> F,
    F: Future<Output = ()> + Send + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let mut inner = self.inner.clone(); // nobody has asked this one whether it is ready
        let authorized = (self.authorize)();
        Box::pin(async move {
            authorized.await;
            inner.call(request).await
        })
    }
}
