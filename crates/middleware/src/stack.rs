//! # A stack of layers, and its order: tower::ServiceBuilder
//!
//! A time limit, retries, a queue, a concurrency and a rate limit, load shedding: tower has each, and
//! each does what it says. Together they do so in one order only. In most others everything compiles,
//! and a limit of 100 ms lets a caller wait for 800, or three tries take three limits. This is the
//! order that holds, for any service and request, with errors that a caller can tell apart.
//!
//! ## Use it when
//! - calls to something of bounded strength, a backend or a device, come from many tasks;
//! - each caller must have an answer in time, be it that there is none.
//!
//! ## Use something else when
//! - it is a server that must not break down: `http_service`;
//! - one of the layers is enough: `timeout_layer`, `load_shed_layer` and the like, each counted or
//!   smoothed where tower's own is not; or no tower at all: `limit_concurrency`, `limit_rate`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt,time
//! cargo add tokio-util --features rt
//! cargo add tower --features buffer,limit,load-shed,retry,util
//! ```
//!
//! ## Why this order
//! | From the outside in | Why here |
//! | --- | --- |
//! | load shed | A full queue refuses the request. Below the queue it would refuse what the queue is for. |
//! | time limit | It begins with the call, and must include all waiting: for a place, the rate, a pause. |
//! | retry | All tries share the time limit. A pause holds no place, and each try counts for the rate. |
//! | buffer | Makes all waits below a part of the call. One worker, so that clones share the limits. |
//! | concurrency limit | Below the buffer, since it waits in `poll_ready`, before a time limit begins. |
//! | rate limit | The same, and it is not `Clone`. With one worker, these two may change places. |
//! | limit of a try | A try that hangs gives its place back. It begins when the work does. |
//!
//! ## Watch out
//! - `timeout` right outside of `concurrency_limit` does not include the wait for a place: ten callers
//!   of 80 ms, one at a time, wait up to 800 ms within a limit of 100: `limit_outside_timeout`.
//! - tower's time limit never strikes on work that uses up its task's budget in each turn: its timer
//!   gets no unit of it. Both limits here are tokio's, which do.
//! - The worker takes requests out of the queue when it has its turn. A burst of more than
//!   [`Settings::queue`] is refused in part, though all places are free.
//! - A request whose caller gave up keeps its place in the queue until its turn.
//! - A panic in the service's own `call`, or an error of its `poll_ready`, ends the worker, and each
//!   later call with [`StackError::Closed`]. A `service_fn` that returns an async block has neither.
//! - tower's load shed asks once, and takes "not now" for "full": a task that has spent its budget is
//!   refused by an empty queue, and a clone that was refused and is kept takes the next free place
//!   without using it. Hence the clone for each call here, asked without a budget.

use std::error::Error;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::unconstrained;
use tokio::time::{Timeout, timeout};
use tokio_util::task::AbortOnDropHandle;
use tower::buffer::Buffer;
use tower::load_shed::error::Overloaded;
use tower::retry::Policy;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

/// How much, how long, how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// For a whole call: the wait in the queue, all tries, the pauses between them.
    pub time_limit: Duration,
    /// For one try, from when its work begins.
    pub try_limit: Duration,
    /// Tries that wait for their turn, beside the one that is next. As many as may come at once.
    pub queue: NonZeroUsize,
    /// Tries at once.
    pub concurrency: NonZeroUsize,
    /// Tries begun in each second.
    pub per_second: NonZeroU64,
}

/// Why a call has no response.
#[derive(Debug, Error)]
pub enum StackError<E> {
    /// The queue is full. The service was not called.
    #[error("overloaded: the queue is full")]
    Overloaded,
    /// Over the time limit, or the try limit and not tried again. What was done stays done.
    #[error("timed out")]
    TimedOut,
    /// The service failed, and it was not tried again.
    #[error("the service failed")]
    Inner(#[source] E),
    /// The worker has ended, with the service or the runtime. There will be no more responses.
    #[error("the service is closed")]
    Closed(#[source] BoxError),
}

/// Puts `service` behind all layers. Clones of the result share its limits; it is always ready, and
/// each call is answered within [`Settings::time_limit`].
///
/// `policy` decides what is tried again, and when. It sees responses, [`StackError::Inner`] and, for
/// a try that took too long, [`StackError::TimedOut`].
///
/// A task runs beside the calls, and owns `service`. It ends when the last clone and the last call
/// are gone.
///
/// # Panics
///
/// If called outside of a Tokio runtime, or in one without timers.
///
/// # Cancel safety
///
/// A call that is dropped while it waits never gets to the service; while it works, its work is
/// dropped where it awaits.
pub fn stack<S, P, R>(
    settings: Settings,
    policy: P,
    service: S,
) -> impl Service<
    R,
    Response = S::Response,
    Error = StackError<S::Error>,
    Future: Future<Output = Result<S::Response, StackError<S::Error>>> + Send,
> + Clone
where
    S: Service<R> + Send + 'static,
    S::Error: Error + Send + Sync + 'static,
    S::Future: Send + 'static,
    P: Policy<R, S::Response, StackError<S::Error>> + Clone + Send + 'static,
    P::Future: Send,
    R: Send + 'static,
{
    let at_most = |number: NonZeroUsize| number.get().min(Semaphore::MAX_PERMITS); // or panic
    let limited = ServiceBuilder::new()
        .concurrency_limit(at_most(settings.concurrency))
        .rate_limit(settings.per_second.get(), Duration::from_secs(1))
        .map_future(move |work| in_time(timeout(settings.try_limit, work)))
        .map_err(StackError::Inner) // before it is boxed with the others
        .service(service);
    // As `buffer` in the builder does, but that one's worker belongs to nobody, and may never end.
    let (buffer, worker) = Buffer::pair(limited, at_most(settings.queue));
    let worker = Arc::new(AbortOnDropHandle::new(tokio::spawn(worker)));
    let layers = ServiceBuilder::new()
        .map_err(StackError::from_boxed)
        .load_shed()
        .map_future(move |work| in_time(timeout(settings.time_limit, work)))
        .retry(policy)
        .map_err(StackError::from_boxed)
        .service(buffer);
    service_fn(move |request| {
        let (mut layers, worker) = (layers.clone(), Arc::clone(&worker));
        async move {
            let _worker = worker; // needed until this call is answered
            unconstrained(layers.ready()).await?; // load shed has an answer at once
            layers.call(request).await
        }
    })
}

/// The limit's time has begun already, and not with the first poll of this.
async fn in_time<T, E>(
    work: Timeout<impl Future<Output = Result<T, StackError<E>>>>,
) -> Result<T, StackError<E>> {
    work.await.unwrap_or(Err(StackError::TimedOut))
}

impl<E: Error + Send + Sync + 'static> StackError<E> {
    fn from_boxed(error: BoxError) -> Self {
        match error.downcast() {
            Ok(known) => *known,
            Err(error) if error.is::<Overloaded>() => Self::Overloaded,
            Err(error) => Self::Closed(error),
        }
    }
}
