//! # Graceful shutdown: JoinSet and CancellationToken
//!
//! A service is told to stop while requests, connections or jobs are under way. It stops accepting,
//! gives what it has accepted some time to finish, and aborts the rest. At the end it knows of each
//! unit of work whether it finished, panicked, was aborted, or cannot be stopped at all.
//!
//! ## Use it when
//! - units of work come from outside, and one that is cut off is lost for somebody;
//! - the process has to be gone by a deadline, and what was lost must be known by then.
//!
//! ## Use something else when
//! - a fixed set of long-lived tasks is to be stopped: `supervisor`;
//! - several parts have to stop one after the other: `ordered_stop`, with this as one of its stages;
//! - jobs wait in a queue for a worker: `work_queue`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt,time
//! cargo add tokio-util
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - Tasks that were spawned and that nobody waits for are dropped when `main` returns, at the await
//!   where they stand: shown in `accepted_and_dropped`.
//! - `TaskTracker::wait` tells that all tasks ended, not how: one that panicked looks like a clean
//!   end. `JoinSet::shutdown` has no limit: one task that never awaits and it does not return.
//! - What the accept loop awaits is dropped at the stop. Accept, and nothing else: a handshake that
//!   follows there takes its connection with it. It belongs in the unit.
//! - A connection that the kernel took and nobody accepted is reset when the listener is dropped.
//!   Take the process out of the load balancer first.
//! - What a unit spawns by itself is neither waited for nor aborted. Give it an [`Intake`].
//! - Abort takes effect at an await. If every worker thread of the runtime runs a unit that comes
//!   to none, no timer fires, and `shutdown` returns late. The drop of the runtime, the end of
//!   `#[tokio::main]` included, waits for such a unit, and for a blocking one that has begun: use
//!   `Runtime::shutdown_background` or exit the process once the report is written.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use thiserror::Error;
use tokio::task::coop::unconstrained;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Owns the units of work that were accepted, each under a key `K`.
///
/// Dropping it aborts them, and an event tells how many: they stop at their next await. **Blocking
/// units that have begun run on.**
#[derive(Debug)]
pub struct Workers<K: Debug>(Arc<Shared<K>>);

/// Hands units of work to the [`Workers`]. Clone it for each accept loop.
#[derive(Debug)]
pub struct Intake<K>(Arc<Shared<K>>);

/// How long [`Workers::shutdown`] waits: for the sum of the two at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopLimits {
    /// For units to end on their own. Those that do not are aborted.
    pub finish: Duration,
    /// For aborted units to come to an await. With zero, those are still running that would have.
    pub abort: Duration,
}

/// What became of the units. The five add up to those that were accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it alone tells of what was aborted"]
pub struct Report<K> {
    /// Units that returned, from the start on.
    pub finished: u64,
    /// Units that had panicked before the shutdown. An event told the key of each.
    pub panicked_before: u64,
    /// Units that panicked in the course of the shutdown, each with the panic's message.
    pub panicked: Vec<(K, String)>,
    /// Units that were aborted. They are gone, and what they owned is dropped.
    pub aborted: Vec<K>,
    /// Units that were aborted and did not stop in time. **They run on** until their next await;
    /// blocking ones to their end, if they have begun.
    pub still_running: Vec<K>,
}

/// The workers are stopping, or gone. Here is the unit, untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the workers take no more units: refuse this one where it came from, or hand it on")]
pub struct Stopped<U>(pub U);

#[derive(Debug)]
struct Shared<K> {
    /// Cancelled first: from then on units are refused.
    stopping: CancellationToken,
    /// Cancelled second: the units are asked to finish early.
    finishing: CancellationToken,
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    tasks: JoinSet<()>,
    keys: HashMap<Id, K>,
    report: Report<K>,
    /// Panics of which no event has told yet: the unit's key, as text, and the message.
    untold: Vec<(String, String)>,
}

impl<K: Debug> Workers<K> {
    /// Workers without units. From the moment when `stop` is cancelled they refuse new ones. Those
    /// that are under way hear of it from [`shutdown`](Self::shutdown) only.
    #[must_use]
    pub fn new(stop: &CancellationToken) -> Self {
        Self(Arc::new(Shared {
            stopping: stop.child_token(),
            finishing: CancellationToken::new(),
            state: Mutex::default(),
        }))
    }

    /// A handle for those who accept.
    #[must_use]
    pub fn intake(&self) -> Intake<K> {
        Intake(Arc::clone(&self.0))
    }

    /// Refuses new units, then asks those under way to finish, waits, aborts those that are left, and
    /// waits for these.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it aborts the units that are left; the report so far is lost.
    pub async fn shutdown(self, limits: StopLimits) -> Report<K> {
        self.0.stopping.cancel();
        // Whoever was let in before that has left this lock, and is in the set.
        self.0.with_state(State::forget_ended);
        self.0.finishing.cancel();
        self.drain(limits.finish).await;
        self.0.with_state(|state| state.tasks.abort_all());
        self.drain(limits.abort).await;
        let State { keys, report, .. } = self.0.with_state(mem::take);
        Report {
            still_running: keys.into_values().collect(),
            ..report
        }
    }

    async fn drain(&self, within: Duration) {
        let drain = poll_fn(|cx| {
            self.0.with_state(|state| {
                while let Some(joined) = ready!(state.tasks.poll_join_next_with_id(cx)) {
                    state.record(joined);
                }
                Poll::Ready(())
            })
        });
        // Unconstrained: a budget that ends at 128 units would hide the rest when the time is over.
        drop(timeout(within, unconstrained(drain)).await); // who is late is still in `keys`
    }
}

impl<K: Debug> Drop for Workers<K> {
    fn drop(&mut self) {
        self.0.stopping.cancel();
        let aborted = self.0.with_state(|state| {
            state.reap();
            state.tasks.abort_all();
            state.tasks.len()
        });
        if aborted > 0 {
            tracing::error!(aborted, "workers were dropped before their units had ended");
        }
    }
}

impl<K: Debug> Intake<K> {
    /// Starts a unit of work: `work` gets it, with a token that asks it to finish early. A panic
    /// touches no other unit; the next call, or the shutdown, logs it with its key.
    ///
    /// It neither waits nor limits: take a permit before, and move it into `work`.
    ///
    /// # Errors
    ///
    /// [`Stopped`], with the unit, once the workers are stopping or dropped.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub fn spawn<U, F>(
        &self,
        key: K,
        unit: U,
        work: impl FnOnce(U, CancellationToken) -> F + Send + 'static,
    ) -> Result<(), Stopped<U>>
    where
        U: Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.admit(key, unit, |tasks, unit, token| {
            tasks.spawn(async move { work(unit, token).await }) // called in the task: it may panic
        })
    }

    /// Like [`spawn`](Self::spawn), for work that blocks: it runs on a thread of its own, and **can be
    /// stopped by nothing but the token** once it has begun.
    ///
    /// # Errors
    ///
    /// [`Stopped`], with the unit, once the workers are stopping or dropped.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub fn spawn_blocking<U: Send + 'static>(
        &self,
        key: K,
        unit: U,
        work: impl FnOnce(U, CancellationToken) + Send + 'static,
    ) -> Result<(), Stopped<U>> {
        self.admit(key, unit, |tasks, unit, token| {
            tasks.spawn_blocking(move || work(unit, token))
        })
    }

    /// A token for the accept loop, cancelled once units are refused.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.0.stopping.child_token()
    }

    fn admit<U>(
        &self,
        key: K,
        unit: U,
        start: impl FnOnce(&mut JoinSet<()>, U, CancellationToken) -> AbortHandle,
    ) -> Result<(), Stopped<U>> {
        self.0.with_state(|state| {
            if self.0.stopping.is_cancelled() {
                return Err(Stopped(unit)); // asked under the lock, which a stop takes after its cancel
            }
            state.forget_ended();
            let token = self.0.finishing.child_token();
            let id = start(&mut state.tasks, unit, token).id();
            state.keys.insert(id, key);
            Ok(())
        })
    }
}

impl<K> Clone for Intake<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Shared<K> {
    /// Does something under the lock. The events come after it: who hears of one may spawn a unit.
    fn with_state<R>(&self, action: impl FnOnce(&mut State<K>) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = action(&mut state);
        let untold = mem::take(&mut state.untold);
        drop(state);
        for (key, message) in untold {
            tracing::error!(%key, panic = message, "a unit of work panicked");
        }
        result
    }
}

impl<K> Default for State<K> {
    fn default() -> Self {
        Self {
            tasks: JoinSet::new(),
            keys: HashMap::new(),
            untold: Vec::new(),
            report: Report {
                finished: 0,
                panicked_before: 0,
                panicked: Vec::new(),
                aborted: Vec::new(),
                still_running: Vec::new(),
            },
        }
    }
}

impl<K: Debug> State<K> {
    /// So that memory does not grow with the units that have ended, nor with those that panicked.
    fn forget_ended(&mut self) {
        self.reap();
        self.report.panicked_before += self.report.panicked.drain(..).map(|_| 1).sum::<u64>();
    }

    fn reap(&mut self) {
        while let Some(joined) = self.tasks.try_join_next_with_id() {
            self.record(joined);
        }
    }

    fn record(&mut self, joined: Result<(Id, ()), JoinError>) {
        let id = joined.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        let Some(key) = self.keys.remove(&id) else {
            return; // each task has one
        };
        match joined.map_err(JoinError::try_into_panic) {
            Ok(_) => self.report.finished += 1,
            Err(Err(_)) => self.report.aborted.push(key),
            Err(Ok(panic)) => {
                let text = panic.downcast_ref::<&str>().copied();
                let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                let message = text.unwrap_or("no message").to_owned();
                self.untold.push((format!("{key:?}"), message.clone()));
                self.report.panicked.push((key, message));
            }
        }
    }
}
