//! # Load shed layer: LoadShedLayer
//!
//! A service is full. To answer "not now" at once costs next to nothing, and leaves the caller its
//! time; to let it wait fills the memory with requests that nobody awaits any more. tower's
//! `LoadShedLayer` sheds what its service is not ready for, but does not count it, and where its
//! service is kept between requests, as for a connection, one that was shed once waits in secret and
//! takes a place. This layer counts, and asks a clone that ends with the request.
//!
//! ## Use it when
//! - overload has to be an answer (503 with `Retry-After`), and to be seen in the metrics.
//!
//! ## Use something else when
//! - no service is involved: `limit_concurrency` refuses too; for queues: `load_shedding`;
//! - callers can wait, for a limited time: `timeout_layer`.
//!
//! ## Add to your project
//! ```console
//! cargo add pin-project-lite
//! cargo add tokio --features rt
//! cargo add tower --features load-shed
//! ```
//!
//! ## Watch out
//! - It sheds what is not ready, so it belongs right above what says so: a concurrency limit, or a
//!   small `buffer_layer` above that, for those that may wait. Above a service that is always ready
//!   (`timeout_layer`, an axum router) it sheds nothing.
//! - Above a buffer it sheds when the queue is full, and no earlier: behind a thousand places the last
//!   caller waits for a thousand others, and nothing is shed.
//! - That queue must also hold those who come before its worker has its turn: of six requests in one
//!   instant, four find no place in a queue of two, though the service is idle.
//! - tower's `LoadShed` around a service that is kept: once shed it stands in the line, is given the
//!   next place that is free, and keeps it until its next request. Some silent connections of that
//!   kind, and everything is shed while nothing runs.
//! - tower's `LoadShed` above a buffer sheds at random in a busy task: an empty queue says "not yet" to
//!   a task that has used up its turn.
//! - The error is a box: `error.is::<Overloaded>()`. One from a second layer below looks the same.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::task::coop::has_budget_remaining;
use tower::load_shed::error::Overloaded;
use tower::{BoxError, Layer, Service};

/// Refuses what the service is not ready for, with tower's [`Overloaded`]. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct ShedLayer {
    shed: Arc<AtomicU64>,
}

impl ShedLayer {
    /// A layer that has shed nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many requests were shed, in all services with this layer.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Shed {
            inner,
            shed: Arc::clone(&self.shed),
        }
    }
}

/// A service that takes each request, and either calls its inner service at once or fails.
#[derive(Debug, Clone)]
pub struct Shed<S> {
    inner: S,
    shed: Arc<AtomicU64>,
}

impl<S, R> Service<R> for Shed<S>
where
    S: Service<R> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ShedFuture<S, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        ShedFuture {
            asked: Some((self.inner.clone(), request)),
            called: None,
            shed: Arc::clone(&self.shed),
        }
    }
}

pin_project! {
    /// A call of [`Shed`]. It asks for a place when it is first polled.
    #[derive(Debug)]
    pub struct ShedFuture<S: Service<R>, R> {
        asked: Option<(S, R)>,
        #[pin]
        called: Option<S::Future>,
        shed: Arc<AtomicU64>,
    }
}

impl<S, R> Future for ShedFuture<S, R>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some((mut service, request)) = this.asked.take() {
            match service.poll_ready(cx) {
                Poll::Ready(ready) => ready.map_err(Into::into)?,
                // "Not yet" of a task that has had its turn says nothing of the service: ask again.
                Poll::Pending if !has_budget_remaining() => {
                    *this.asked = Some((service, request));
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // The clone ends here, and leaves the line in which it was put.
                Poll::Pending => {
                    this.shed.fetch_add(1, Ordering::Relaxed);
                    return Poll::Ready(Err(Overloaded::new().into()));
                }
            }
            this.called.set(Some(service.call(request)));
        }
        let Some(called) = this.called.as_pin_mut() else {
            return Poll::Pending; // polled again after its end
        };
        Poll::Ready(ready!(called.poll(cx)).map_err(Into::into))
    }
}
