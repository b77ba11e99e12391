//! # Backon retry: the same with backon
//!
//! The loop of `backoff` as a crate: `operation.retry(policy)`, with a choice of policies. Its
//! defaults are not what a production system wants: no jitter, no limit on the time in all, every
//! error tried again. This sets it up with all of them, and with one place that decides about each
//! error and one that hears of each wait.
//!
//! ## Use it when
//! - backon is in the project already, or other policies of it are wanted (Fibonacci, constant);
//! - the operation is a method chain that should read as one.
//!
//! ## Use something else when
//! - forty lines are cheaper than a dependency, or the jitter should be full: `backoff`;
//! - it is an HTTP request: `retry_http`, which is built on backon.
//!
//! ## Add to your project
//! ```console
//! cargo add backon
//! cargo add thiserror
//! cargo add tokio --features time
//! ```
//!
//! ## Watch out
//! - `ExponentialBuilder::default()` has no jitter: a thousand clients march in step (`no_jitter`).
//! - `with_max_times(3)` is three retries, so four calls.
//! - `with_max_delay` is the limit before jitter, which adds up to as much again: no wait is above
//!   twice that.
//! - Its jitter adds to the wait: the first one is never shorter than the minimum, and the clients
//!   spread over half as much of the time as with full jitter.
//! - `with_total_delay` adds up the waits alone. Calls that take a minute each are not counted, and
//!   one that hangs is not ended.
//! - `with_total_delay` with `without_max_delay` panics once the sum of the waits overflows.
//! - Without `when` or `adjust` every error is tried again, what can never succeed included.

use std::num::NonZeroUsize;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use thiserror::Error;
use tokio::time::timeout;

/// How long to wait, how often to try, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The shortest first wait. It doubles with each further one, and each is lengthened by up to as
    /// much again at random.
    pub base: Duration,
    /// No wait is above this, its random part included.
    pub cap: Duration,
    /// Calls in all, the first one included.
    pub tries: NonZeroUsize,
    /// Time in all, waits and tries together. The try under way is dropped when it is over.
    pub total: Duration,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RetryError<E> {
    /// The last try failed: with an error that is not to be tried again, or it was the last allowed.
    #[error("the call failed")]
    Failed(#[source] E),
    /// The time was over. The errors before were told to `notify`; whether the try that was cut off
    /// was done, nobody knows.
    #[error("no success within {0:?}")]
    OutOfTime(Duration),
}

impl Policy {
    /// The policy in backon's terms, for a chain of your own. [`total`](Self::total) is not part of
    /// it: backon has no limit for waits and calls together.
    #[must_use]
    pub fn builder(&self) -> ExponentialBuilder {
        let most = self.cap / 2; // jitter doubles it
        ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(self.base.min(most))
            .with_max_delay(most)
            .with_max_times(self.tries.get() - 1)
    }
}

/// Calls `operation` until it succeeds, `judge` says no, or the limits of `policy` are reached.
///
/// `judge` sees every error: `None` means never again, `Some(wait)` to wait at least that long,
/// because the other side said so; zero if it did not. `notify` hears of each error that is tried
/// again, and of the wait before that.
///
/// # Errors
///
/// [`RetryError`].
///
/// # Panics
///
/// If `operation`, `judge` or `notify` does. If polled outside of a Tokio runtime, or in one without
/// timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it drops the try under way, and makes no other.
pub async fn retry<T, E, F>(
    policy: &Policy,
    mut judge: impl FnMut(&E) -> Option<Duration>,
    notify: impl FnMut(&E, Duration),
    operation: impl FnMut() -> F,
) -> Result<T, RetryError<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let calls = operation
        .retry(policy.builder())
        // `adjust` alone, not `when`: it hears the answer and how long to wait in one question.
        .adjust(|error, wait| {
            let at_least = judge(error)?;
            Some(wait?.saturating_add(at_least))
        })
        .notify(notify);
    match timeout(policy.total, calls).await {
        Ok(ended) => ended.map_err(RetryError::Failed),
        Err(_) => Err(RetryError::OutOfTime(policy.total)),
    }
}
