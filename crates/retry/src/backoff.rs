//! # Backoff: exponential waits with full jitter
//!
//! A call failed for a reason that passes, so it is made again: after a while, and after a longer
//! while, in case the other side needs longer to recover. Without chance in the waits all who failed
//! together come back together, and the server that was just getting up falls again. So each wait is
//! a random one between nothing and a ceiling that doubles (full jitter), and tries and time are
//! limited.
//!
//! ## Use it when
//! - a call fails now and then for reasons that pass, and may be made again.
//!
//! ## Use something else when
//! - the project has backon already, or several kinds of backoff are wanted: `backon_retry`;
//! - it is an HTTP request: `retry_http` knows the statuses and `Retry-After`;
//! - many callers retry at once: add `retry_budget` or `circuit_breaker`, or an outage multiplies the
//!   load by the number of tries;
//! - the first try is slow rather than failed: hedge with `first_success`.
//!
//! ## Add to your project
//! ```console
//! cargo add fastrand
//! cargo add thiserror
//! cargo add tokio --features time
//! ```
//!
//! ## Watch out
//! - Equal waits, or exponential ones without chance, keep a thousand clients in step: all of them
//!   arrive in the same instant, each time, as shown in `no_jitter`.
//! - `base * 2_u32.pow(attempt)` overflows at the 33rd try: it panics, or waits for nothing.
//! - A server's own hint (`Retry-After`) is the same for all. Chance is added to it here, not
//!   replaced by it.
//! - A generator seeded alike everywhere gives the same waits everywhere. Seed only in tests.
//! - An operation that may have been done must be idempotent to be tried again: see `retryable`, and
//!   `paid_twice` for what happens otherwise.
//! - Nothing here is an `AsyncFnMut`, since its futures cannot be spawned. An async closure that owns
//!   what it uses does not fit then: borrow, `let client = &client; async |_| client.get().await`.
//! - A timeout around one try is yours to set; [`Policy::total`] ends the try under way as well, but
//!   one silent try may use it all up.

use std::num::NonZeroU32;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long to wait, how often to try, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The ceiling of the first wait. It doubles with each further one.
    pub base: Duration,
    /// No ceiling is above this.
    pub cap: Duration,
    /// Calls in all, the first one included.
    pub tries: NonZeroU32,
    /// Time in all, waits and tries together. The try under way is dropped when it is over.
    pub total: Duration,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RetryError<E> {
    /// `judge` said that this error is not to be tried again.
    #[error("not tried again after {tries} tries")]
    Permanent {
        /// Calls made.
        tries: NonZeroU32,
        /// What the last one returned.
        source: E,
    },
    /// Every try failed.
    #[error("none of {tries} tries succeeded")]
    Exhausted {
        /// Calls made: as many as the policy allows.
        tries: NonZeroU32,
        /// What the last one returned.
        source: E,
    },
    /// The time was over, or would have been before the next try.
    #[error("no success within {total:?}, after {tries} tries")]
    OutOfTime {
        /// Calls begun. If the last of them was cut off, nobody knows whether it was done.
        tries: NonZeroU32,
        /// The time that the policy allows.
        total: Duration,
        /// What the last call returned that returned at all.
        source: Option<E>,
    },
}

/// Calls `operation` until it succeeds, `judge` says no, or the limits of `policy` are reached.
///
/// `operation` gets the number of the try, from 1. `judge` sees every error, so it is also the place
/// to log and to count: `None` means never again, `Some(wait)` to wait at least that long, because
/// the other side said so; zero if it did not. The wait before the next try is that, and a random
/// time up to the ceiling. If it would end after the last moment, there is no wait: the error comes
/// at once.
///
/// # Errors
///
/// [`RetryError`], with the last error.
///
/// # Panics
///
/// If `operation` or `judge` does. If polled outside of a Tokio runtime, or in one without timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it drops the try under way, and makes no other.
pub async fn retry<T, E, F>(
    policy: &Policy,
    random: fastrand::Rng,
    mut judge: impl FnMut(&E) -> Option<Duration>,
    mut operation: impl FnMut(NonZeroU32) -> F,
) -> Result<T, RetryError<E>>
where
    F: Future<Output = Result<T, E>>,
{
    // Later than the clock can count is never.
    let end = Instant::now().checked_add(policy.total).filter(can_come);
    let mut waits = Waits::new(policy, random);
    let mut tries = NonZeroU32::MIN;
    let mut last = None;
    loop {
        let attempt = operation(tries);
        let ended = match end {
            Some(end) => timeout_at(end, attempt).await.ok(),
            None => Some(attempt.await),
        };
        let out_of_time = |source| RetryError::OutOfTime {
            tries,
            total: policy.total,
            source,
        };
        let source = match ended {
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) => error,
            None => return Err(out_of_time(last)),
        };
        let Some(at_least) = judge(&source) else {
            return Err(RetryError::Permanent { tries, source });
        };
        if tries >= policy.tries {
            return Err(RetryError::Exhausted { tries, source });
        }
        let wait = at_least.saturating_add(waits.draw());
        let next = Instant::now().checked_add(wait);
        let in_time = |next: &Instant| can_come(next) && end.is_none_or(|end| *next < end);
        let Some(next) = next.filter(in_time) else {
            return Err(out_of_time(Some(source)));
        };
        sleep_until(next).await;
        last = Some(source);
        tries = tries.saturating_add(1);
    }
}

/// A timer rounds up to a millisecond, and panics if the clock cannot count that far.
fn can_come(at: &Instant) -> bool {
    at.checked_add(Duration::from_millis(1)).is_some()
}

/// The random waits of a [`Policy`], one after another without end: for a loop of your own.
#[derive(Debug, Clone)]
pub struct Waits {
    ceiling: Duration,
    cap: Duration,
    random: fastrand::Rng,
}

impl Waits {
    /// Begins with a ceiling of `policy.base`.
    #[must_use]
    pub fn new(policy: &Policy, random: fastrand::Rng) -> Self {
        Self {
            ceiling: policy.base.min(policy.cap),
            cap: policy.cap,
            random,
        }
    }

    /// The next wait: anything from zero to the ceiling is equally likely. Then the ceiling doubles,
    /// up to the cap.
    pub fn draw(&mut self) -> Duration {
        // 64 bits of nanoseconds are 584 years.
        let ceiling = u64::try_from(self.ceiling.as_nanos()).unwrap_or(u64::MAX);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.cap);
        Duration::from_nanos(self.random.u64(0..=ceiling))
    }
}
