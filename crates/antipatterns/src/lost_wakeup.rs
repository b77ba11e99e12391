//! # Lost wakeup: Notify::notify_waiters while nobody waits
//!
//! One looks, is not satisfied, and waits to be notified of a change. The change comes after the
//! look and before the wait. `notify_waiters` wakes whoever waits at that moment and keeps nothing
//! for later, so this one sleeps, with what it waits for done.
//!
//! ## You have it when
//! - a task waits for ever, though what it waits for is so, as one sees when one looks;
//! - under load a stop signal is ignored now and then, and always by the task that is busy;
//! - a timeout, or one more change, makes it go on.
//!
//! ## What it does to you
//! - [`wait_until`] sleeps through the one change there is, if it comes while the answer to its
//!   question is on the way, or between the look and `notified()`, where another thread can be.
//! - [`run_until_stopped`] does not hear a stop that comes while it handles a job: each turn of its
//!   loop makes a new `Notified`. An hour later it is still at work, 360 jobs after the stop.
//! - `notify_one` in its place keeps a permit, for one: of three such loops one stops.
//!
//! ## Use instead
//! - `notify`: the `Notified` is made first, then one looks, then waits. A `Monitor` does it for
//!   you;
//! - for a stop, a `CancellationToken`, which stays cancelled: `shutdown_first`.

use tokio::select;
use tokio::sync::{Notify, mpsc};

/// Waits until `is_done` says so. Each change is followed by `notify_waiters`.
pub async fn wait_until(changed: &Notify, mut is_done: impl AsyncFnMut() -> bool) {
    while !is_done().await {
        changed.notified().await; // of a change from now on, not from the look on
    }
}

/// Handles jobs until `stop` is notified. Returns how many.
pub async fn run_until_stopped<J, F: Future<Output = ()>>(
    stop: &Notify,
    jobs: &mut mpsc::Receiver<J>,
    mut handle: impl FnMut(J) -> F,
) -> usize {
    let mut done = 0;
    loop {
        select! {
            () = stop.notified() => return done, // made anew in each turn
            Some(job) = jobs.recv() => {
                handle(job).await; // a stop that comes now wakes nobody
                done += 1;
            }
        }
    }
}
