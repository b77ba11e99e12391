//! # Unowned task: tokio::spawn, and nobody keeps the handle
//!
//! A refresher, a consumer, a mail that need not be waited for: `tokio::spawn`, and on to the next
//! thing. The handle that it returns is dropped in the same line, and with it the only place where
//! the task's panic, its error and its end could have been heard.
//!
//! ## You have it when
//! - something that ran beside the rest (a cache that is refreshed, a queue that is consumed)
//!   stopped days ago, and the process is healthy;
//! - the log has a lone `thread 'tokio-rt-worker' panicked at`, perhaps with a number in between,
//!   and nothing came of it;
//! - mails, metrics or audit lines are missing after each restart;
//! - no lint says anything: only `let _ = tokio::spawn(…)` is told, by `let_underscore_future`.
//!
//! ## What it does to you
//! - A refresher whose third round panics made 3 rounds in a day instead of 1,440. The program that
//!   started it saw nothing of it.
//! - An error is worse than a panic: it is not even printed.
//! - Of 100 pieces of work spawned and still waiting at the end of `main`, none is done.
//!
//! ## Use instead
//! - `supervisor` for tasks that run as long as the program: it has them by name, starts a failed
//!   one again, tells how each ended, and waits for all of them at the stop;
//! - `join_set` or `spawn_batch` for tasks that have a result; `graceful_shutdown` for the rest.

use std::time::Duration;

use tokio::time::interval;

/// Calls `refresh` now and once in each `period`, for as long as the program runs, it is hoped.
pub fn start_refresher<E, F>(period: Duration, refresh: impl FnMut() -> F + Send + 'static)
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
{
    tokio::spawn(refresh_for_ever(period, refresh)); // the handle is dropped here
}

async fn refresh_for_ever<E, F: Future<Output = Result<(), E>>>(
    period: Duration,
    mut refresh: impl FnMut() -> F,
) -> Result<(), E> {
    let mut ticks = interval(period);
    loop {
        ticks.tick().await;
        refresh().await?; // to whom?
    }
}

/// Sends a mail, writes a line of an audit log: what the answer to a request need not wait for.
pub fn in_background(work: impl Future<Output: Send> + Send + 'static) {
    tokio::spawn(work); // who waits for it at the end of `main`?
}
