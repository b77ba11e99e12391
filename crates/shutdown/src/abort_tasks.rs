//! # Abort tasks: AbortHandle and JoinError
//!
//! To stop a task from outside there is `abort`. It is a request: the task ends at its next await, or
//! has ended already, or never awaits again, and the `JoinError` that comes back means one of two
//! very different things. Code that takes every `JoinError` for a cancellation hides panics; code
//! that calls the other cases unreachable panics itself. Here the ends have names, and a stop tells
//! which of them happened.
//!
//! ## Use it when
//! - a task is to be stopped that knows of no token, and need not clean up behind an await;
//! - what is to be known afterwards is whether it finished, was stopped, panicked, or still runs.
//!
//! ## Use something else when
//! - the task should finish what it began: give it a `CancellationToken`, see `graceful_shutdown`;
//! - there are many, with keys or names: `join_set`, `supervisor`;
//! - it only has to stop with its owner: `AbortOnDropHandle` of tokio-util, or a `JoinSet`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt,time
//! ```
//!
//! ## Watch out
//! - `abort` returns at once, the task does not end at once. Until its handle says so it may still
//!   hold a lock, a file, a connection.
//! - A task that never awaits is not stopped by `abort`, neither is a `spawn_blocking` one that has
//!   begun. Waiting for either without a limit waits as long as it pleases.
//! - A task that finished before the abort reached it gives its result, not a cancellation: the
//!   result may have effects that must be kept.
//! - A dropped `JoinHandle` does not stop its task: a call that timed out is done all the same, see
//!   `dropped_handle`. A dropped `AbortHandle` does not either.
//! - The aborted task's locals are dropped, in the task; what it would have done after its await is
//!   not done. `Drop` cannot await: see `async_close`.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use thiserror::Error;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, timeout};

/// How a task ended.
#[derive(Debug)]
pub enum End<T> {
    /// It returned this, perhaps while it was about to be aborted.
    Finished(T),
    /// It was aborted, or its runtime shut down, and is gone: everything it owned is dropped.
    Cancelled,
    /// It panicked.
    Panicked(Panic),
}

/// The payload of a panic, with its message.
#[derive(Error)]
#[error("the task panicked: {message}")]
pub struct Panic {
    /// What `panic!` was called with, or "no message".
    pub message: String,
    /// The payload itself, for `std::panic::resume_unwind`.
    pub payload: Box<dyn Any + Send>,
}

/// The task has not ended within the limit. It has been asked to and will end at its next await, if
/// there is one. Here is its handle, to ask again or to **let it run on, detached, by dropping it**.
#[derive(Debug, Error)]
#[error(
    "the task still runs {waited:?} after it was aborted: it blocks its thread, or never awaits"
)]
pub struct StillRunning<T> {
    /// How long it was waited for.
    pub waited: Duration,
    /// The task.
    pub task: JoinHandle<T>,
}

impl<T> From<Result<T, JoinError>> for End<T> {
    fn from(result: Result<T, JoinError>) -> Self {
        match result.map_err(JoinError::try_into_panic) {
            Ok(value) => Self::Finished(value),
            Err(Ok(payload)) => Self::Panicked(Panic::from(payload)),
            Err(Err(_)) => Self::Cancelled,
        }
    }
}

impl<T> End<T> {
    /// What the task returned, `None` if it was cancelled.
    ///
    /// # Errors
    ///
    /// [`Panic`] if it panicked.
    pub fn finished(self) -> Result<Option<T>, Panic> {
        match self {
            Self::Finished(value) => Ok(Some(value)),
            Self::Cancelled => Ok(None),
            Self::Panicked(panic) => Err(panic),
        }
    }
}

/// Aborts a task and waits until it is gone, at most for `limit`. A limit of zero still sees that it
/// had ended before.
///
/// # Errors
///
/// [`StillRunning`], with the task, if it has not ended within `limit`.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without timers.
///
/// # Cancel safety
///
/// Dropped before it is done, the task is aborted all the same, but how it ends is lost.
pub async fn stop<T>(mut task: JoinHandle<T>, limit: Duration) -> Result<End<T>, StillRunning<T>> {
    task.abort();
    match timeout(limit, &mut task).await {
        Ok(result) => Ok(End::from(result)),
        Err(_) => Err(StillRunning {
            waited: limit,
            task,
        }),
    }
}

/// Aborts many tasks, and only then waits for them, so that all have the same time to end: `limit`
/// bounds the whole. The results are in the tasks' order.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without timers.
///
/// # Cancel safety
///
/// Once polled, every task is aborted. Dropped before it is done, how they end is lost.
pub async fn stop_all<T>(
    tasks: impl IntoIterator<Item = JoinHandle<T>>,
    limit: Duration,
) -> Vec<Result<End<T>, StillRunning<T>>> {
    let tasks: Vec<_> = tasks.into_iter().collect();
    tasks.iter().for_each(JoinHandle::abort);
    let started = Instant::now();
    let mut ends = Vec::with_capacity(tasks.len());
    for task in tasks {
        let end = stop(task, limit.saturating_sub(started.elapsed())).await;
        ends.push(end.map_err(|still| StillRunning {
            waited: limit,
            ..still
        }));
    }
    ends
}

impl From<Box<dyn Any + Send>> for Panic {
    fn from(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self {
            message: text.unwrap_or("no message").to_owned(),
            payload,
        }
    }
}

/// By hand, since a payload is no `Debug`.
impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&self.message).finish()
    }
}
