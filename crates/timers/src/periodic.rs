//! # Periodic: interval
//!
//! Every minute a cache is refreshed, a lease renewed, a report sent. A loop written for that drifts,
//! ends without a word at the first panic, catches up in a burst after a stall, or drops a run half
//! way at a stop. This one keeps to its instants, hands every result to its owner, who decides
//! whether it goes on, and says why it ended.
//!
//! ## Use it when
//! - something is to be done at fixed instants, counted from the start, by one task;
//! - a failed run must be noticed, and most of the time must not be the last.
//!
//! ## Use something else when
//! - what a stall does to the ticks is the question: `missed_ticks`;
//! - the pause counts from the last event: `schedule_at`, `debounce`;
//! - it is a loop of its own that must be started again when it fails: `supervisor`;
//! - it happens at a time of day: look for a crate that knows calendars.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features macros,time
//! cargo add tokio-util
//! ```
//!
//! ## Watch out
//! - `loop { job().await; sleep(period).await }` drifts: each pause starts when the job is done, as
//!   shown in `sleep_as_interval`.
//! - A spawned loop whose handle nobody awaits ends with the job's first panic, unseen.
//! - A job in the branch of a `select!` with the stop is dropped half-way. Here it has `grace`.
//! - A run that never ends is the last one, without a word. Limit it: `deadline`.
//! - `Burst` makes up for all that was missed: after an hour's stall, a period of a second is
//!   followed by 3,600 runs without a pause (`burst_of_ticks`).
//! - A job that changes what it captures is "an async closure that does not implement `FnMut`". Let
//!   `after_run` change it, or share it: `Cell`, or `Mutex` if the schedule is spawned. What a
//!   panicking run has half changed is there for the next one.
//! - Copies of a program that start together run together. Give each another `first_after`.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::select;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

/// When the job runs, and how long it may go on after a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// From one run to the next, start to start. Timers count in milliseconds: with less, several
    /// runs follow each other at once. More than 30 years is 30 years.
    pub period: Duration,
    /// Before the first run. Zero: at once. More than 30 years is 30 years.
    pub first_after: Duration,
    /// What follows a run that took longer than the period: each missed run at once (`Burst`), the
    /// next one a period after the late one (`Delay`), or the next instant of the schedule that is
    /// still to come (`Skip`). After 5 ms or less nothing counts as missed.
    pub missed: MissedTickBehavior,
    /// How long a run under way may go on after a stop. Then it is dropped where it waits. Zero: at
    /// once.
    pub grace: Duration,
}

/// Why the schedule ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended<B> {
    /// The token was cancelled. No run was under way, or it was done within `grace`.
    Stopped,
    /// The token was cancelled while a run was under way, and `grace` was not enough for it. It was
    /// dropped where it waited.
    CutOff {
        /// When that run was due.
        due: Instant,
    },
    /// `after_run` broke with this.
    Broke(B),
}

/// What became of a run that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure<E> {
    /// It returned this error.
    #[error("{0}")]
    Failed(E),
    /// It panicked with this message.
    #[error("panicked: {0}")]
    Panicked(String),
}

/// A period of zero: there is no next instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the period is zero: give the time from one run to the next, a millisecond or more")]
pub struct ZeroPeriod;

/// Runs `job` by the schedule until `stop` is cancelled or `after_run` breaks.
///
/// The job gets the instant at which its run was due, by which it can tell how late it is, and what
/// was skipped. Runs never overlap. Each result, a panic included, goes to `after_run`: let it log
/// failures, count them in a row, and return `ControlFlow::Continue(())` for the next run or
/// `ControlFlow::Break` for the end. A stop while it waits ends it at once; no run starts after it.
///
/// # Errors
///
/// [`ZeroPeriod`], at once.
///
/// # Panics
///
/// If `after_run` does, or a destructor in a run that is cut off. If polled outside of a Tokio runtime,
/// or in one without timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it drops the run under way where it waits, and starts no other.
pub async fn periodic<T, E, B, F>(
    schedule: Schedule,
    stop: &CancellationToken,
    mut job: impl FnMut(Instant) -> F,
    mut after_run: impl FnMut(Result<T, Failure<E>>) -> ControlFlow<B>,
) -> Result<Ended<B>, ZeroPeriod>
where
    F: Future<Output = Result<T, E>>,
{
    if schedule.period.is_zero() {
        return Err(ZeroPeriod);
    }
    let first = Instant::now() + schedule.first_after.min(FAR);
    let mut ticks = interval_at(first, schedule.period);
    ticks.set_missed_tick_behavior(schedule.missed);
    loop {
        let due = select! {
            biased; // a stop that comes together with a tick comes first
            () = stop.cancelled() => return Ok(Ended::Stopped),
            due = ticks.tick() => due,
        };
        let begun = AtomicBool::new(false);
        // Inside the block, so that a panic before the job's first await is caught too.
        let mut run = pin!(
            AssertUnwindSafe(async {
                begun.store(true, Ordering::Relaxed);
                job(due).await
            })
            .catch_unwind()
        );
        let done = match stop.run_until_cancelled(&mut run).await {
            Some(done) => done,
            // Cancelled by another thread since the tick came.
            None if !begun.load(Ordering::Relaxed) => return Ok(Ended::Stopped),
            None => match timeout(schedule.grace.min(FAR), run).await {
                Ok(done) => done,
                Err(_) => return Ok(Ended::CutOff { due }),
            },
        };
        let result = match done {
            Ok(result) => result.map_err(Failure::Failed),
            Err(panic) => Err(Failure::panicked(panic.as_ref())),
        };
        if let ControlFlow::Break(reason) = after_run(result) {
            return Ok(Ended::Broke(reason));
        }
    }
}

/// About 30 years: what tokio makes of a longer period. The sum with an instant does not overflow.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);

impl<E> Failure<E> {
    fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::Panicked(text.unwrap_or("no message").to_owned())
    }
}
