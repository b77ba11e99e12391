//! # Deadline: timeout_at
//!
//! A request has two seconds, and is made of steps with limits of their own. Given as durations the
//! limits add up: each step starts to count anew, and goes on working for a caller that has left. A
//! deadline is a point in time instead: passed down, it tells every step what is left, cuts the step
//! off when it is over, and says in the error whose limit it was.
//!
//! ## Use it when
//! - work that awaits must end by a given time, and its parts must know how much of that is left;
//! - a timeout in the log has to say which limit struck, in which step.
//!
//! ## Use something else when
//! - every event moves the limit, as with an idle connection: `schedule_at`;
//! - the reason to stop is not the clock but somebody's wish: `scope`;
//! - the work computes and does not await: `cpu_offload`, whose flag the work itself asks.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features time
//! ```
//!
//! ## Watch out
//! - A task that the work started with `tokio::spawn` lives on. Let the work own its tasks in a
//!   `JoinSet` or an `AbortOnDropHandle`, or spawn `deadline.run(…)`, which ends by itself.
//! - Such tasks are aborted when the work is dropped and gone a moment later: when
//!   [`run`](Deadline::run) returns, their sockets and locks may not be free yet.
//! - Only an await can be cut off. Code that computes or blocks runs on, and if it is done when it
//!   comes back, its result is `Ok`, however late: see `no_yield_timeout`. A long loop that calls
//!   tokio's `consume_budget().await` each time round is cut off within 256 calls.
//! - The work is dropped where it waits. What it had done by then stays done: a half-written frame,
//!   a request that was sent. Use a connection no further whose exchange was cut off.
//! - Time runs from [`within`](Deadline::within), not from `run`: a deadline made at the start of
//!   the program, or kept with a connection, is over when it is needed.
//! - A deadline that is over still polls the work once. To begin nothing, ask
//!   [`remaining`](Deadline::remaining) first.

use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, timeout_at};

/// A point in time by which work must be done, with the name of the limit that set it.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    limit: &'static str,
    set: Instant,
    at: Option<Instant>,
}

/// The work was not done by its deadline, and was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[error("{work} was cut off {after:?} after the start of its limit \"{limit}\"")]
pub struct DeadlineError {
    /// The work, as named in [`Deadline::run`].
    pub work: &'static str,
    /// The limit that struck, as named in [`Deadline::within`], [`at`](Deadline::at) or
    /// [`child`](Deadline::child).
    pub limit: &'static str,
    /// The time since that limit was set. Much more than the limit allows means that something
    /// kept the thread busy.
    pub after: Duration,
}

impl Deadline {
    /// A deadline that is over `duration` from now. Zero is over at once, more than the clock can
    /// count is never.
    #[must_use]
    pub fn within(limit: &'static str, duration: Duration) -> Self {
        let now = Instant::now();
        Self::new(limit, now, now.checked_add(duration))
    }

    /// A deadline that is over at `instant`, which may be past.
    #[must_use]
    pub fn at(limit: &'static str, instant: Instant) -> Self {
        Self::new(limit, Instant::now(), Some(instant))
    }

    /// No limit, for a caller that has none where a deadline is asked for. A [`child`](Self::child)
    /// of it has its own.
    #[must_use]
    pub fn never() -> Self {
        Self::new("never", Instant::now(), None)
    }

    fn new(limit: &'static str, set: Instant, at: Option<Instant>) -> Self {
        // The timer rounds up to a millisecond, and panics if the clock cannot count that far.
        let at = at.filter(|at| at.checked_add(Duration::from_millis(1)).is_some());
        Self { limit, set, at }
    }

    /// The deadline of a part of the work: over `duration` from now, or with this one if that is
    /// earlier. It has the name of the limit that comes first; if both come at once, this one's.
    #[must_use]
    pub fn child(self, limit: &'static str, duration: Duration) -> Self {
        let child = Self::within(limit, duration);
        match (self.at, child.at) {
            (Some(at), Some(earlier)) if earlier < at => child,
            (None, Some(_)) => child,
            _ => self,
        }
    }

    /// The time that is left: zero once it is over, [`Duration::MAX`] if it never is. For an API
    /// that takes a timeout, or a header that tells another process.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.at
            .map_or(Duration::MAX, |at| at.duration_since(Instant::now()))
    }

    /// Awaits `work` until the deadline. `name` is for the error.
    ///
    /// The work is asked first, the clock second: what is done when the deadline strikes is `Ok`.
    /// The timer counts in milliseconds, and strikes up to one late. Where an inner and an outer
    /// `run` wait for the same instant, either may be the one that strikes: the limit in the error
    /// is the same, the work may not be.
    ///
    /// # Errors
    ///
    /// [`DeadlineError`] if `work` was not done in time. It has been dropped by then, with all it
    /// owned. **What it spawned and does not own lives on.**
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or in one without timers; not if it never ends.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it drops `work` where it waits: no less safe than `work` itself.
    pub async fn run<F: Future>(
        self,
        name: &'static str,
        work: F,
    ) -> Result<F::Output, DeadlineError> {
        let Some(at) = self.at else {
            return Ok(work.await);
        };
        timeout_at(at, work).await.map_err(|_| DeadlineError {
            work: name,
            limit: self.limit,
            after: self.set.elapsed(),
        })
    }
}
