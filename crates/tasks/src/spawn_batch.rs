//! # Spawn batch: tokio::spawn with a limit
//!
//! A list of inputs, the same work for each, and all the results, in the order of the inputs. Each
//! input gets a task of its own, so the work runs on all of the runtime's threads, and no more than
//! a given number of tasks is alive at once. A panic costs the one result it belongs to.
//!
//! ## Use it when
//! - all inputs are at hand, or an iterator makes them, and every result is wanted;
//! - the work for one input takes much longer than a microsecond: starting a task costs about half.
//!
//! ## Use something else when
//! - a result is wanted as soon as it is there, or more work comes later: `join_set`;
//! - jobs come from several tasks and go on coming: `work_queue`;
//! - the work borrows from the caller, or only waits: `concurrent_map` does it in one task;
//! - the first error should stop the rest: `batch`.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features rt
//! ```
//!
//! ## Watch out
//! - A loop of `tokio::spawn` has no limit: a thousand inputs are a thousand tasks, connections or
//!   open files at once. `await_in_a_loop` shows it for `join_all`, and the other extreme.
//! - `JoinSet::join_all` gives results in the order in which the tasks end, and panics if one of
//!   them did: the other results are gone.
//! - A `Vec` of `JoinHandle`s owns nothing: drop it, as a timeout does, and the tasks run on: see
//!   `dropped_handle` and `detached_by_question_mark`.
//! - Dropping the batch stops a task at its next await. Code that never awaits runs to its end.

use std::any::Any;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt;
use thiserror::Error;
use tokio::task::{JoinSet, coop};

/// Why an input has no result. The indexes count the inputs from 0.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TaskError {
    /// The work for this input panicked. No other input is affected.
    #[error("the work for input {index} panicked: {message}")]
    Panicked {
        /// Which input.
        index: usize,
        /// The panic's message.
        message: String,
    },
    /// The runtime shut down while the task was alive.
    #[error("the runtime shut down before the work for input {index} was done")]
    Cancelled {
        /// Which input.
        index: usize,
    },
}

/// Spawns a task for each of `inputs`, no more than `limit` alive at once, and returns their
/// results in the order of the inputs.
///
/// `work` is called in the caller's task, so it may borrow; the future it returns runs in a task of
/// its own, and may not. An input is taken from the iterator only when its task can start.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or if `inputs` panics.
///
/// # Cancel safety
///
/// Dropped before it is done, it takes no further input and aborts the tasks under way; the results
/// so far are lost.
pub async fn spawn_batch<J, T, F>(
    limit: NonZeroUsize,
    inputs: impl IntoIterator<Item = J>,
    work: impl Fn(J) -> F,
) -> Vec<Result<T, TaskError>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    // Grows as inputs come: an iterator's size hint is no promise, and may be enormous.
    let mut results = Vec::new();
    for (index, input) in inputs.into_iter().enumerate() {
        results.push(None);
        match catch_unwind(AssertUnwindSafe(|| work(input))) {
            Ok(future) => {
                // `fuse` drops the future where it ends, so a destructor's panic is caught as well.
                // Combinators, since an async block around a future would double its size.
                let guarded = AssertUnwindSafe(future.fuse()).catch_unwind();
                tasks.spawn(guarded.map(move |result| (index, result)));
            }
            Err(panic) => store(&mut results, index, Err(panic)),
        }
        // Spawning alone never suspends: a large limit would keep the thread from all other tasks.
        coop::consume_budget().await;
        while tasks.len() >= limit.get() {
            store_next(&mut tasks, &mut results).await;
        }
    }
    while !tasks.is_empty() {
        store_next(&mut tasks, &mut results).await;
    }
    let cancelled =
        |(index, result): (usize, Option<_>)| result.unwrap_or(Err(TaskError::Cancelled { index }));
    results.into_iter().enumerate().map(cancelled).collect()
}

/// What a task returns: which input, and how the work for it ended.
type Ended<T> = (usize, Result<T, Box<dyn Any + Send>>);

type Results<T> = [Option<Result<T, TaskError>>];

/// Waits for a task to end. One that the runtime cancelled leaves its place empty.
async fn store_next<T: 'static>(tasks: &mut JoinSet<Ended<T>>, results: &mut Results<T>) {
    if let Some(Ok((index, result))) = tasks.join_next().await {
        store(results, index, result);
    }
}

fn store<T>(results: &mut Results<T>, index: usize, result: Result<T, Box<dyn Any + Send>>) {
    if let Some(place) = results.get_mut(index) {
        *place = Some(result.map_err(|panic| TaskError::Panicked {
            index,
            message: message(panic.as_ref()),
        }));
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
