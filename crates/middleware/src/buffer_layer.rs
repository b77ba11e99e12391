//! # Buffer layer: Buffer::pair
//!
//! A service that cannot be cloned, a connection say, shall be used by many tasks. tower's
//! `BufferLayer` puts a queue before it whose handles are clones, and a task behind the queue that
//! owns the service. That task belongs to nobody: it cannot be stopped, and if the service panics in
//! it, each caller hears that the worker closed "unexpectedly", for ever, and nobody why. Here the
//! task has an owner, who can stop it, and is told how it ended.
//!
//! ## Use it when
//! - a service that is not `Clone` has several callers, or one layer above asks for a clone.
//!
//! ## Use something else when
//! - the service is `Clone`: it needs no queue; `concurrency_limit_layer` lets callers wait as well;
//! - no tower is involved: `request_reply`, and for jobs without an answer `work_queue`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt
//! cargo add tokio-util --features rt
//! cargo add tower --features buffer
//! ```
//!
//! ## Watch out
//! - `let (handle, _) = buffered(…)` stops the worker on that line. Give it a name: `_worker`.
//! - The worker only calls; the response is awaited by the caller. So a buffer limits what waits, not
//!   what runs: put a limit below it.
//! - `poll_ready` reserves a place in the queue. A handle that is ready and not called keeps it, and
//!   as many such handles as there are places stop everybody: call clones, as `oneshot` does.
//! - An error of the service's `poll_ready` is final: the queue is closed, and all who wait and all
//!   who come get it, as the source of a `ServiceError`. Give what may pass as the error of a call.
//! - A panic in its `poll_ready` or in `call` itself (not in the future) is final too. Make a new
//!   service and a new buffer.
//! - With bare `Buffer::new` the worker, and the service in it, live until every handle is dropped and
//!   what was queued is called, which may be never.
//! - The wait in the queue is not seen from above: `load_shed_layer` sheds only when it is full.

use std::num::NonZeroUsize;

use thiserror::Error;
use tokio_util::task::AbortOnDropHandle;
use tower::buffer::Buffer;
use tower::{BoxError, Service};

/// The task that owns the service. **Dropping it stops the queue**: the service is dropped, and what
/// waits in the queue fails with tower's `Closed`. What has been called goes on, since its caller
/// awaits it.
#[derive(Debug)]
#[must_use = "dropping it stops the queue"]
pub struct BufferWorker {
    task: AbortOnDropHandle<()>,
    ended: Option<Result<(), WorkerError>>,
}

/// Why the worker stopped before its time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WorkerError {
    /// The service panicked in `poll_ready` or `call`.
    #[error("the buffered service panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The worker's runtime was shut down.
    #[error("the worker's runtime was shut down")]
    RuntimeGone,
}

/// Puts a queue of `waiting` places, and one in the worker's hand, before `service`. Clones of the
/// handle share it.
///
/// If the service's futures are boxed, the compiler may refuse an `async` block that awaits the handle
/// in a task ("could not prove … `Send`"):
///
/// ```compile_fail
/// # use std::pin::Pin;
/// # use tower::{BoxError, ServiceExt, buffer::Buffer};
/// # type Boxed = Pin<Box<dyn Future<Output = Result<u8, BoxError>> + Send>>;
/// # fn ask(handle: Buffer<u8, Boxed>) {
/// tokio::spawn(async move { handle.oneshot(1).await });
/// # }
/// ```
///
/// The call is a future without such a block; `FutureExt::map` and `then` take what comes after:
///
/// ```
/// # use std::pin::Pin;
/// # use tower::{BoxError, ServiceExt, buffer::Buffer};
/// # type Boxed = Pin<Box<dyn Future<Output = Result<u8, BoxError>> + Send>>;
/// # fn ask(handle: Buffer<u8, Boxed>) {
/// tokio::spawn(handle.oneshot(1));
/// # }
/// ```
///
/// # Panics
///
/// If called outside of a Tokio runtime.
///
/// # Cancel safety
///
/// A call that is dropped while it waits in the queue never reaches the service.
pub fn buffered<S, R>(service: S, waiting: NonZeroUsize) -> (Buffer<R, S::Future>, BufferWorker)
where
    S: Service<R> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send + Sync,
    R: Send + 'static,
{
    let waiting = waiting.get().min(MOST_WAITING);
    let (buffer, worker) = Buffer::pair(service, waiting);
    let worker = BufferWorker {
        task: AbortOnDropHandle::new(tokio::spawn(worker)),
        ended: None,
    };
    (buffer, worker)
}

/// What a queue can hold; more would panic.
const MOST_WAITING: usize = usize::MAX >> 3;

impl BufferWorker {
    /// Waits until the worker ends: every handle is dropped and the queue empty, or the service's
    /// `poll_ready` failed, which its callers have been told. Asked again, it says the same.
    ///
    /// # Errors
    ///
    /// [`WorkerError`] if it was cut short.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it changes nothing: the worker works on.
    pub async fn ended(&mut self) -> Result<(), WorkerError> {
        if let Some(ended) = &self.ended {
            return ended.clone(); // a task can be asked only once
        }
        let ended = (&mut self.task)
            .await
            .map_err(|error| match error.try_into_panic() {
                Ok(panic) => {
                    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                    WorkerError::Panicked {
                        message: text.unwrap_or_else(|| "no message".to_owned()),
                    }
                }
                Err(_) => WorkerError::RuntimeGone,
            });
        self.ended.insert(ended).clone()
    }
}
