//! # Dropped handle: timeout or select! around tokio::spawn
//!
//! A call is spawned, and waited for up to a limit. When the limit strikes, `timeout` drops what it
//! was given, which ends a future. It was given a `JoinHandle`, and dropping that ends nothing: the
//! call goes on, with nobody to hear of it, beside the one that is made instead.
//!
//! ## You have it when
//! - a payment, a mail, a job is now and then done twice, always when the other side was slow;
//! - a slow server gets more calls at once than there are callers;
//! - after the error `deadline has elapsed`, the log goes on with lines of what had elapsed;
//! - a `select!` over handles takes the first, and the others cost as much as before.
//!
//! ## What it does to you
//! - A call of 250 ms with a limit of 100 ms, tried 3 times: the caller is told that it failed, and
//!   it was done 3 times.
//! - All 3 attempts are under way at once, so that what is slow becomes slower.
//! - A handle that loses a `select!` is done all the same.
//!
//! ## Use instead
//! - `abort_tasks`: `stop` the task when its time is over, and look how it ended: it may have been
//!   done at that very moment;
//! - `deadline` around the call itself, if it need not be a task; `AbortOnDropHandle` around a
//!   handle that only has to stop with its owner.

use std::time::Duration;

use tokio::time::timeout;

/// Calls up to `tries` times, each with a limit, until one call is done.
pub async fn call_with_limit<T, F>(limit: Duration, tries: u32, call: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    for _ in 0..tries {
        let task = tokio::spawn(call());
        if let Ok(Ok(value)) = timeout(limit, task).await {
            return Some(value);
        } // the handle was dropped; the task was not
    }
    None
}
