//! # Join set: results as they finish, each with its key
//!
//! Tasks come and go, and whoever owns them wants to hear of each end as it happens, and whose end
//! it was. A `JoinSet` names a panicked task by its id alone and keeps every result until somebody
//! reads it. This set gives each task a key, and has a limit that makes its owner read.
//!
//! ## Use it when
//! - results are used as they come: a crawler, a set of subscriptions, one task per connection;
//! - there are more tasks to come than may be alive, or be remembered, at once;
//! - a task may have to be stopped by its key.
//!
//! ## Use something else when
//! - all inputs are known and the results are wanted in their order: `spawn_batch`;
//! - a second task under the same key should replace the first: `JoinMap` of tokio-util;
//! - a task that fails should be started again: `supervisor`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt
//! ```
//!
//! ## Watch out
//! - A `JoinSet` that is only read at the end holds every result until then: 100,000 tasks, 100,000
//!   results, however few run at once. `unreaped_join_set` refuses its 1,001st connection.
//! - `JoinMap::spawn` aborts the task that runs under the same key, and its end is never told.
//! - `next` of an empty set is `None` at once. In `select!`, write `Some(ended) = tasks.next()`: a
//!   plain `ended =` is always ready while the set is empty, and the loop spins.
//! - Neither abort nor drop stops a blocking task that has begun. Give it a flag: `hash_file`.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;

use thiserror::Error;
use tokio::task::coop::{cooperative, unconstrained};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// A limited number of tasks, each with a key. Several may have the same.
///
/// Dropping it aborts its tasks: they stop at their next await. **Blocking tasks that have begun
/// run on**; those that still wait for a thread never start.
#[derive(Debug)]
pub struct TaskSet<K, T> {
    tasks: JoinSet<T>,
    keys: HashMap<Id, (K, AbortHandle)>,
    limit: NonZeroUsize,
}

/// How one task ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended<K, T> {
    /// The key it was spawned with.
    pub key: K,
    /// What it returned.
    pub result: Result<T, TaskError>,
}

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TaskError {
    /// It panicked.
    #[error("the task panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// It was aborted, or the runtime shut down.
    #[error("the task was cancelled")]
    Cancelled,
}

/// The set has as many tasks as its limit allows. Here are the key and the work.
#[derive(Error)]
#[error("the set is full: read an end first")]
pub struct Full<K, W> {
    /// The key, as it was passed.
    pub key: K,
    /// The work, as it was passed: it has not begun.
    pub work: W,
}

impl<K, T: 'static> TaskSet<K, T> {
    /// An empty set. A task counts towards `limit` until [`next`](Self::next) has returned its end.
    #[must_use]
    pub fn new(limit: NonZeroUsize) -> Self {
        Self {
            tasks: JoinSet::new(),
            keys: HashMap::new(),
            limit,
        }
    }

    /// Starts a task.
    ///
    /// # Errors
    ///
    /// [`Full`], with the key and the work, if there are as many tasks as the limit allows.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub fn spawn<F>(&mut self, key: K, work: F) -> Result<(), Full<K, F>>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        if self.is_full() {
            return Err(Full { key, work });
        }
        let task = self.tasks.spawn(work);
        self.keys.insert(task.id(), (key, task));
        Ok(())
    }

    /// Starts a task on a thread that may block. **Once begun, nothing but its own end stops it**,
    /// not even the drop of the runtime, which waits for it.
    ///
    /// # Errors
    ///
    /// [`Full`], with the key and the work, if there are as many tasks as the limit allows.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime, or if the system refuses the runtime its first thread.
    pub fn spawn_blocking<F>(&mut self, key: K, work: F) -> Result<(), Full<K, F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send,
    {
        if self.is_full() {
            return Err(Full { key, work });
        }
        let task = self.tasks.spawn_blocking(work);
        self.keys.insert(task.id(), (key, task));
        Ok(())
    }

    /// Waits for a task to end. `None` at once if there is no task; more may be spawned later.
    /// Ends come in the order in which they happened.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has taken no end: the next call gets it.
    pub async fn next(&mut self) -> Option<Ended<K, T>> {
        loop {
            // An end for which there is no budget would go to the back of the line. So the budget is
            // asked for here, where nothing is taken yet, and not within.
            let next = cooperative(unconstrained(self.tasks.join_next_with_id()));
            let (id, result) = match next.await? {
                Ok((id, value)) => (id, Ok(value)),
                Err(error) => (error.id(), Err(TaskError::from(error))),
            };
            // Each task has its key, so the first turn is the last.
            if let Some((key, _)) = self.keys.remove(&id) {
                return Some(Ended { key, result });
            }
        }
    }

    /// Asks every task with a key that `chosen` picks to stop at its next await, and returns how
    /// many it asked. [`next`](Self::next) still tells of them, as [`TaskError::Cancelled`] unless
    /// they had ended before.
    pub fn abort(&self, chosen: impl Fn(&K) -> bool) -> usize {
        let tasks = self.keys.values().filter(|(key, _)| chosen(key));
        tasks.map(|(_, task)| task.abort()).count()
    }

    /// Whether every task's end has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether `spawn` would be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.tasks.len() >= self.limit.get()
    }
}

/// By hand, so that the work need not implement `Debug`: futures do not.
impl<K, W> fmt::Debug for Full<K, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Full").finish_non_exhaustive()
    }
}

impl From<JoinError> for TaskError {
    fn from(error: JoinError) -> Self {
        error
            .try_into_panic()
            .map_or(Self::Cancelled, |panic| Self::Panicked {
                message: message(panic.as_ref()),
            })
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
