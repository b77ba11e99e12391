//! # A service by hand: tower::Service
//!
//! A tower service is asked twice: `poll_ready` whether it can take a request now, `call` to take it.
//! The first question is what holds a caller back, and an answer is good for one call of the value
//! that gave it: a clone knows nothing of it. So a service at the end of a chain must reserve what it
//! promises, and one in the middle must call the very value that said yes. Here is one of each.
//!
//! ## Use it when
//! - a client, a pool or a handler of yours is to stand behind tower's layers: [`Limited`];
//! - something must be awaited before the inner service is called, a token say: [`Prepare`].
//!
//! ## Use something else when
//! - `tower::service_fn` is enough: the work takes every request, or a limit around it does;
//! - the same wrapper goes around many services: `layer`; several wrappers: `stack`.
//!
//! ## Add to your project
//! ```console
//! cargo add pin-project-lite
//! cargo add thiserror
//! cargo add tokio --features sync
//! cargo add tokio-util
//! cargo add tower-service
//! ```
//!
//! ## Watch out
//! - In `call`, `self.inner.clone().call(…)` calls a clone that was never ready: tower's limits, its
//!   buffer and its mock panic, as shown in `lost_readiness`. Use [`take_ready`].
//! - To wait in the future until that clone is ready is no remedy: the place that `poll_ready` took
//!   stays with the value in `self`, and if it was the last one, the wait has no end.
//! - A service that is ready and not called keeps its place from all others, as [`Prepare`] does
//!   while it prepares. Have a request at hand first, as with `ServiceExt::oneshot`, or drop it.
//! - An error of `poll_ready` says that the service is gone for good: a buffer ends with it.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;
use tower_service::Service;

/// An async function as a service, so many calls at once, until it is closed. Clones share the
/// places, and each makes itself ready. (The limit alone is tower's `ConcurrencyLimit`.)
#[derive(Debug)]
pub struct Limited<F> {
    work: F,
    places: PollSemaphore,
    place: Option<OwnedSemaphorePermit>,
}

/// Why [`Limited`] gave no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LimitedError<E> {
    /// It was closed before there was a place.
    #[error("the service is closed")]
    Closed,
    /// It was called before it was ready. The work was not begun.
    #[error("the service was called before it was ready")]
    NotReady,
    /// The work failed.
    #[error("the work failed")]
    Failed(#[source] E),
}

impl<F> Limited<F> {
    /// A service that calls `work` with each request, `limit` at once.
    #[must_use]
    pub fn new(limit: NonZeroUsize, work: F) -> Self {
        let limit = limit.get().min(Semaphore::MAX_PERMITS); // more would panic
        Self {
            work,
            places: PollSemaphore::new(Arc::new(Semaphore::new(limit))),
            place: None,
        }
    }

    /// Refuses who waits for a place, and all who come later. Who has one may use it.
    pub fn close(&self) {
        self.places.close();
    }
}

impl<F: Clone> Clone for Limited<F> {
    fn clone(&self) -> Self {
        Self {
            work: self.work.clone(),
            places: self.places.clone(),
            place: None, // it belongs to the one that waited for it
        }
    }
}

impl<F, W, R, T, E> Service<R> for Limited<F>
where
    F: FnMut(R) -> W,
    W: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = LimitedError<E>;
    type Future = LimitedFuture<W>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // May be asked many times before one call, and must not take a second place.
        if self.place.is_none() {
            self.place = ready!(self.places.poll_acquire(cx));
        }
        Poll::Ready(self.place.as_ref().map(|_| ()).ok_or(LimitedError::Closed))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let place = self.place.take();
        let work = place.is_some().then(|| (self.work)(request));
        LimitedFuture { work, place }
    }
}

pin_project! {
    /// A call of [`Limited`]. Its place is free again when the work ends, or this is dropped.
    #[derive(Debug)]
    pub struct LimitedFuture<W> {
        #[pin]
        work: Option<W>,
        place: Option<OwnedSemaphorePermit>,
    }
}

impl<W: Future<Output = Result<T, E>>, T, E> Future for LimitedFuture<W> {
    type Output = Result<T, LimitedError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(work) = this.work.as_mut().as_pin_mut() else {
            return Poll::Ready(Err(LimitedError::NotReady));
        };
        let result = ready!(work.poll(cx));
        this.work.set(None); // what it owns must be gone when the next one starts
        *this.place = None; // now, since a caller may keep a future that has ended
        Poll::Ready(result.map_err(LimitedError::Failed))
    }
}

/// A service that awaits `prepare`, which makes the inner service's request of each request, before
/// it calls `inner`. (tower's `AsyncFilter` does the same, with another error type.)
#[derive(Debug, Clone)]
pub struct Prepare<S, P> {
    inner: S,
    prepare: P,
}

impl<S, P> Prepare<S, P> {
    /// Calls `prepare`, then `inner`.
    pub const fn new(inner: S, prepare: P) -> Self {
        Self { inner, prepare }
    }
}

impl<S, P, F, Q, R> Service<Q> for Prepare<S, P>
where
    S: Service<R> + Clone,
    P: FnMut(Q) -> F,
    F: Future<Output = Result<R, S::Error>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = PrepareFuture<S, F, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        PrepareFuture {
            inner: Some(take_ready(&mut self.inner)),
            preparing: Some((self.prepare)(request)),
            response: None,
        }
    }
}

/// Takes the service that is ready, to be called from a future, and leaves a clone, which is not.
pub fn take_ready<S: Clone>(service: &mut S) -> S {
    let not_ready = service.clone();
    std::mem::replace(service, not_ready)
}

pin_project! {
    /// A call of [`Prepare`]. Dropped, it gives the inner service's place back.
    #[derive(Debug)]
    pub struct PrepareFuture<S: Service<R>, F, R> {
        inner: Option<S>,
        #[pin]
        preparing: Option<F>,
        #[pin]
        response: Option<S::Future>,
    }
}

impl<S, F, R> Future for PrepareFuture<S, F, R>
where
    S: Service<R>,
    F: Future<Output = Result<R, S::Error>>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(preparing) = this.preparing.as_mut().as_pin_mut() {
            let prepared = ready!(preparing.poll(cx));
            this.preparing.set(None);
            let inner = this.inner.take(); // if it failed, this gives the place back
            let request = prepared?;
            this.response
                .set(inner.map(|mut inner| inner.call(request)));
        }
        let response = this.response.as_pin_mut(); // none if it failed before
        response.map_or(Poll::Pending, |response| response.poll(cx))
    }
}
