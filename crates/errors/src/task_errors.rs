//! # Task errors: one enum for a result of a result
//!
//! `handle.await` of a task that can fail gives a `Result` in a `Result`: outside, whether the task
//! came to its end; inside, what it returned. `?` opens only the outer one, and a `JoinError` says
//! neither what the panic's message was nor fits into the caller's error. Here the three ways not to
//! succeed are three variants of one error, and `?` does the rest.
//!
//! ## Use it when
//! - a task returns a `Result`, and its owner must tell an error from a panic and from an abort.
//!
//! ## Use something else when
//! - the task must be stopped first: `abort_tasks`; started again: `supervisor`;
//! - there are many tasks, with results in order or by key: `spawn_batch`, `join_set`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt
//! cargo add tokio-util --features rt
//! ```
//!
//! ## Watch out
//! - `handle.await?` opens the outer result only. Where the inner one is then dropped, by `let _ =`,
//!   `drop` or `.ok()`, the task's error is gone without a warning, as shown in `swallowed_panic`.
//! - `handle.await.unwrap()` makes a panic of a cancellation: a runtime that shuts down cancels its
//!   tasks, and whoever waits for one then panics as well.
//! - The payload of a panic is a `&str` or a `String` if it comes from `panic!`. From
//!   `resume_unwind` or `panic_any` it is anything, and has no message.
//! - A panic is an error in the program, not of its input. To go on with it as if it were the task's
//!   own error hides it: log [`TaskError::Panicked`], or give it on to your own caller.

use thiserror::Error;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::task::AbortOnDropHandle;

/// Why there is no value from a task.
///
/// It is `Send + Sync + 'static` if `E` is, so it goes through channels, other tasks and `anyhow`.
/// That is why it holds the panic's message and not its payload, which is not `Sync`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TaskError<E> {
    /// The task ran to its end and returned this.
    #[error(transparent)]
    Failed(E),
    /// The task panicked.
    #[error("the task panicked: {message}")]
    Panicked {
        /// What `panic!` was called with, or "no message".
        message: String,
    },
    /// The task was aborted, or its runtime shut down. What it had begun is half done.
    #[error("the task was cancelled before its end")]
    Cancelled,
}

/// Makes one result of two.
///
/// # Errors
///
/// [`TaskError`], which tells the task's own error, its panic and its cancellation apart.
pub fn flatten<T, E>(joined: Result<Result<T, E>, JoinError>) -> Result<T, TaskError<E>> {
    match joined {
        Ok(result) => result.map_err(TaskError::Failed),
        Err(error) => Err(TaskError::from(error)),
    }
}

/// Waits for the task's end. Dropping the future **aborts the task**: a bare `JoinHandle` would let
/// it run on, owned by nobody.
///
/// # Errors
///
/// [`TaskError`], which tells the task's own error, its panic and its cancellation apart.
///
/// # Cancel safety
///
/// Dropped before it is done, it aborts the task, and how that ends is lost.
pub async fn join<T, E>(task: JoinHandle<Result<T, E>>) -> Result<T, TaskError<E>> {
    flatten(AbortOnDropHandle::new(task).await)
}

impl<E> TaskError<E> {
    /// The same with another error inside, for the caller's own type.
    pub fn map<F>(self, change: impl FnOnce(E) -> F) -> TaskError<F> {
        match self {
            Self::Failed(error) => TaskError::Failed(change(error)),
            Self::Panicked { message } => TaskError::Panicked { message },
            Self::Cancelled => TaskError::Cancelled,
        }
    }
}

impl<E> From<JoinError> for TaskError<E> {
    fn from(error: JoinError) -> Self {
        let Ok(payload) = error.try_into_panic() else {
            return Self::Cancelled; // there is no third way
        };
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self::Panicked {
            message: text.unwrap_or("no message").to_owned(),
        }
    }
}
