//! # Supervisor: a JoinSet of tasks that start again
//!
//! Some tasks should run as long as the program does: a poller, a consumer, a refresher. Started
//! with `tokio::spawn`, the handle dropped, such a task panics one day, and nobody hears of it and
//! nobody does its work. A supervisor owns these tasks by name. It starts a failed one again, after
//! a growing delay and up to a limit, tells how each ended, and at a stop names those that did not.
//!
//! ## Use it when
//! - a task has to outlive its own errors and panics, up to a point that somebody should hear of;
//! - at shutdown each task is to be told, waited for, and named if it does not end.
//!
//! ## Use something else when
//! - a task runs once and has a result: `join_set`, `spawn_batch`;
//! - one call fails now and then: retry the call, not the task that makes it;
//! - a panic may leave state in memory broken: let the process end, and start that again.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features rt,time
//! cargo add tokio-util
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - A dropped `JoinHandle` stops nothing: the task runs on, and its error goes nowhere, as
//!   `unowned_task` shows. So does what a supervised task spawns by itself, once more with each
//!   restart.
//! - Abort takes effect at an await. A task that comes to none runs on: [`Outcome::StillRunning`].
//!   The drop of the runtime waits for it. So does `stop`, past its limits, if every worker runs
//!   such a task, the only one of a current-thread runtime for instance: no timer fires then.
//! - A panic under a `std::sync::Mutex` poisons it: each attempt that unwraps the lock panics too,
//!   until the limit. Make the state inside the closure, anew for each attempt.
//! - A task that fails each time, but after `healthy_after`, is started again for ever.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::task::coop::{cooperative, unconstrained};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Tasks with names that are started again when they panic or fail with an error `E`.
///
/// Dropping it aborts them: they stop at their next await.
#[derive(Debug)]
pub struct Supervisor<E> {
    tasks: JoinSet<Outcome<E>>,
    names: HashMap<Id, Arc<str>>,
    token: CancellationToken,
}

/// How often and when a failed task is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restarts {
    /// Restarts in a row. The failure after the last of them is final.
    pub limit: usize,
    /// An attempt that runs this long ends the row: count and delay begin anew. With zero every
    /// attempt does, and there is no limit.
    pub healthy_after: Duration,
    /// Before the first restart in a row. Each further delay is twice the one before.
    pub first_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
}

/// How long [`Supervisor::stop`] waits: for the sum of the two at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopLimits {
    /// For tasks to end on their own. Those that do not are aborted.
    pub finish: Duration,
    /// For aborted tasks to come to an await. With zero, those are [`Outcome::StillRunning`] that
    /// would have.
    pub abort: Duration,
}

/// A task and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended<E> {
    /// The name it was spawned with.
    pub name: Arc<str>,
    /// How it ended.
    pub outcome: Outcome<E>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<E> {
    /// It returned `Ok`.
    Finished,
    /// It failed, and was not started again: the limit was reached, or the token cancelled.
    GaveUp(Failure<E>),
    /// It was aborted by a stop, or by the runtime's shutdown.
    Aborted,
    /// It was aborted and did not stop in time. **It runs on** until its next await.
    StillRunning,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure<E> {
    /// It returned this error.
    #[error("{0}")]
    Failed(E),
    /// It panicked with this message.
    #[error("panicked: {0}")]
    Panicked(String),
}

impl<E: fmt::Display + Send + 'static> Supervisor<E> {
    /// A supervisor without tasks. When `token` is cancelled its tasks are asked to end, and those
    /// that fail are not started again.
    #[must_use]
    pub fn new(token: &CancellationToken) -> Self {
        Self {
            tasks: JoinSet::new(),
            names: HashMap::new(),
            token: token.child_token(),
        }
    }

    /// Starts a task that calls `make` for each attempt, with a token that asks it to end, and awaits
    /// what it returns. It starts again by itself, whether [`next`](Self::next) is called or not, and
    /// logs each failure. Several tasks may have the same name.
    ///
    /// Delays need a runtime with timers. In one without, the first failure is final, and is told
    /// as the panic of the timer.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub fn spawn<F>(
        &mut self,
        name: impl Into<Arc<str>>,
        restarts: Restarts,
        make: impl FnMut(CancellationToken) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let (name, token) = (name.into(), self.token.clone());
        let task = supervise(Arc::clone(&name), restarts, token, make);
        self.names.insert(self.tasks.spawn(task).id(), name);
    }

    /// Waits for a task to end for good. `None` at once if there is no task; more may be spawned
    /// later. Ends come in the order in which they happened.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has taken no end: the next call gets it.
    pub async fn next(&mut self) -> Option<Ended<E>> {
        // An end for which there is no budget would go to the back of the line. So the budget is asked
        // for here, where nothing is taken yet, and not within.
        let ended = cooperative(unconstrained(self.tasks.join_next_with_id())).await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let name = self.names.remove(&id).unwrap_or_default(); // each task has one
        let outcome = ended.map_or_else(
            |error| {
                tracing::error!(task = %name, %error, "a supervised task did not end by itself");
                // An attempt's panic is caught. This one is a destructor's, in the abort, or a timer's.
                let panic = error
                    .try_into_panic()
                    .map(|panic| Failure::panicked(panic.as_ref()));
                panic.map_or(Outcome::Aborted, Outcome::GaveUp)
            },
            |(_, outcome)| outcome,
        );
        Some(Ended { name, outcome })
    }

    /// Asks all tasks to end, waits, aborts those that are left, and waits for these. Returns how
    /// each task ended whose end [`next`](Self::next) had not told.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it aborts the tasks that are left; the ends so far are lost.
    pub async fn stop(mut self, limits: StopLimits) -> Vec<Ended<E>> {
        let mut all = Vec::new();
        self.token.cancel();
        self.drain(limits.finish, &mut all).await;
        self.tasks.abort_all();
        self.drain(limits.abort, &mut all).await;
        for (_, name) in self.names {
            tracing::error!(task = %name, "a supervised task cannot be stopped");
            all.push(Ended {
                name,
                outcome: Outcome::StillRunning,
            });
        }
        all
    }

    async fn drain(&mut self, within: Duration, all: &mut Vec<Ended<E>>) {
        let drain = async {
            while let Some(ended) = self.next().await {
                all.push(ended);
            }
        };
        // Unconstrained: a budget that ends at 128 tasks would hide the rest when the time is over.
        drop(timeout(within, unconstrained(drain)).await); // who is late is still in `names`
    }
}

/// One attempt after another.
async fn supervise<E: fmt::Display, F: Future<Output = Result<(), E>>>(
    task: Arc<str>,
    restarts: Restarts,
    token: CancellationToken,
    mut make: impl FnMut(CancellationToken) -> F,
) -> Outcome<E> {
    let (mut restarted, mut delay) = (0, restarts.first_delay);
    loop {
        let began = Instant::now();
        // Made and dropped inside the block, so that a panic in either is caught too.
        let attempt = async { make(token.child_token()).await };
        let failure = match AssertUnwindSafe(attempt).catch_unwind().await {
            Ok(Ok(())) => return Outcome::Finished,
            Ok(Err(error)) => Failure::Failed(error),
            Err(panic) => Failure::panicked(panic.as_ref()),
        };
        if began.elapsed() >= restarts.healthy_after {
            (restarted, delay) = (0, restarts.first_delay);
        }
        delay = delay.min(restarts.max_delay);
        if restarted < restarts.limit && !token.is_cancelled() {
            tracing::warn!(%task, %failure, ?delay, "a supervised task failed and starts again");
            restarted += 1;
            if token.run_until_cancelled(sleep(delay)).await.is_some() {
                delay = delay.saturating_mul(2);
                continue;
            }
        }
        tracing::error!(%task, %failure, "a supervised task failed and was given up");
        return Outcome::GaveUp(failure);
    }
}

impl<E> Failure<E> {
    fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::Panicked(text.unwrap_or("no message").to_owned())
    }
}
