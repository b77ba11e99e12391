//! # A layer of one's own: tower::Layer
//!
//! Requests have deadlines: the user waits two seconds, and three services stand in between. A
//! `TimeoutLayer` knows nothing of that. Its limit is the same for all requests, and starts anew at
//! each service, however long the request has waited before. This layer asks the request for its
//! deadline, does not begin what is too late, cuts off what takes too long, and says which it was.
//! It is also the pattern for a layer of yours: any inner service, its own error, no boxed future.
//!
//! ## Use it when
//! - a request carries a deadline, and whoever answers must know it: a header, a queued message;
//! - a layer is to act on each request and on its response, and tower and tower-http have none.
//!
//! ## Use something else when
//! - all requests have the same limit from here on: tower's `TimeoutLayer`, as in `stack`;
//! - the layer only changes requests, responses or errors: `map_request`, `map_response`, `map_err`;
//! - something is awaited before the inner service is called: `service`;
//! - the deadline is passed from function to function: `deadline`.
//!
//! ## Add to your project
//! ```console
//! cargo add pin-project-lite
//! cargo add thiserror
//! cargo add tokio --features rt,time
//! cargo add tower-layer
//! cargo add tower-service
//! ```
//!
//! ## Watch out
//! - A layer begins with `call`. What waits in `poll_ready`, for a concurrency limit inside of it say,
//!   waits as long as it takes, and is then refused. A buffer in between makes the wait part of the
//!   call, which is cut off.
//! - A refused request leaves the inner service ready: the place that it reserved is kept until the
//!   next call, or until the service is dropped, as after `oneshot`.
//! - The work is dropped where it awaits. Tasks that it spawned run on, and what never awaits is done
//!   before the time is looked at: its response counts, however late.
//! - `BoxError` as a layer's error says nothing to who must decide: of two `TimeoutLayer`s, which
//!   one it was, and whether the work had begun.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use thiserror::Error;
use tokio::task::coop::{has_budget_remaining, unconstrained};
use tokio::time::{Instant, Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

/// Ends each call at the deadline that its request names.
///
/// ```
/// # use std::{convert::Infallible, time::Duration};
/// # use middleware::layer::{DeadlineError, DeadlineLayer};
/// # use tokio::time::{Instant, sleep};
/// # use tower::{ServiceBuilder, ServiceExt};
/// struct Request {
///     deadline: Instant,
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let service = ServiceBuilder::new()
///     .layer(DeadlineLayer::new(|request: &Request| Some(request.deadline)))
///     .service_fn(async |_: Request| {
///         sleep(Duration::from_secs(3)).await;
///         Ok::<_, Infallible>("done")
///     });
/// let deadline = Instant::now() + Duration::from_secs(2);
/// let response = service.oneshot(Request { deadline }).await;
/// assert!(matches!(response, Err(DeadlineError::CutOff)));
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer<D> {
    deadline_of: D,
}

/// The service that [`DeadlineLayer`] makes.
#[derive(Debug, Clone, Copy)]
pub struct Deadline<S, D> {
    inner: S,
    deadline_of: D,
}

/// Why there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DeadlineError<E> {
    /// The deadline had passed when the request came. The inner service was not called.
    #[error("the request came after its deadline")]
    Expired,
    /// The deadline passed while the inner service worked. What it had done by then stays done.
    #[error("the request's deadline passed before the response was there")]
    CutOff,
    /// The inner service failed.
    #[error("the service failed")]
    Inner(#[source] E),
}

impl<D> DeadlineLayer<D> {
    /// A layer that asks `deadline_of` for each request's deadline. `None` is no deadline.
    // The bound is here for the closure's sake: without it, the compiler takes the reference's
    // lifetime for a single one, and the closure for none that takes any request.
    pub const fn new<R>(deadline_of: D) -> Self
    where
        D: Fn(&R) -> Option<Instant>,
    {
        Self { deadline_of }
    }
}

impl<S, D: Clone> Layer<S> for DeadlineLayer<D> {
    type Service = Deadline<S, D>;

    fn layer(&self, inner: S) -> Self::Service {
        let deadline_of = self.deadline_of.clone();
        Deadline { inner, deadline_of }
    }
}

impl<S, D, R> Service<R> for Deadline<S, D>
where
    S: Service<R>,
    D: Fn(&R) -> Option<Instant>,
{
    type Response = S::Response;
    type Error = DeadlineError<S::Error>;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(DeadlineError::Inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let deadline = (self.deadline_of)(&request);
        let expired = deadline.is_some_and(|deadline| deadline <= Instant::now());
        DeadlineFuture {
            response: (!expired).then(|| self.inner.call(request)),
            timer: deadline.filter(can_come).map(sleep_until),
        }
    }
}

/// A timer rounds up to a millisecond, and panics if the clock cannot count that far.
fn can_come(deadline: &Instant) -> bool {
    deadline.checked_add(Duration::from_millis(1)).is_some()
}

pin_project! {
    /// A call of [`Deadline`].
    #[derive(Debug)]
    pub struct DeadlineFuture<F> {
        #[pin]
        response: Option<F>,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl<F: Future<Output = Result<T, E>>, T, E> Future for DeadlineFuture<F> {
    type Output = Result<T, DeadlineError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(response) = this.response.as_mut().as_pin_mut() else {
            return Poll::Ready(Err(DeadlineError::Expired));
        };
        let had_budget = has_budget_remaining();
        // The response first: if both are there, the work was done, and who asked still waits.
        let result = match (response.poll(cx), this.timer.as_pin_mut()) {
            (Poll::Ready(result), _) => result.map_err(DeadlineError::Inner),
            (Poll::Pending, None) => return Poll::Pending,
            (Poll::Pending, Some(timer)) => {
                // A timer needs a unit of the task's budget. Work that leaves none in any turn must
                // not keep it from striking; tokio's own `Timeout` does the same.
                if had_budget && !has_budget_remaining() {
                    ready!(pin!(unconstrained(timer)).poll(cx));
                } else {
                    ready!(timer.poll(cx));
                }
                Err(DeadlineError::CutOff)
            }
        };
        // Now, and not when the caller drops this: what the work holds is wanted by others.
        this.response.set(None);
        Poll::Ready(result)
    }
}
