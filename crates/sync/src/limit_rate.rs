//! # Limit rate: a token bucket on tokio's clock
//!
//! A provider allows 100 calls a second and shuts out who makes more. The limiter lets each call
//! begin as soon as the rate allows it, first come, first served: a burst after a pause, then evenly.
//! A call can count as several, as a batch does.
//!
//! ## Use it when
//! - the other side counts calls per second, however short they are;
//! - your own callers are to be told when to come back: [`RateLimiter::try_now`].
//!
//! ## Use something else when
//! - it is calls at the same time that are limited: `limit_concurrency`. Often you want both;
//! - each client or key has a limit of its own: the crate `governor`. It has no queue, so that small
//!   calls can starve a large one, and a clock that `start_paused` does not pause;
//! - it is one `tower` service: `tower::limit::RateLimit`, a fixed window.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features sync,time
//! ```
//!
//! ## Watch out
//! - A `Semaphore` limits what runs at once: ten permits and calls of 1 ms are 10,000 calls a second,
//!   as in `concurrency_as_rate`.
//! - A counter that is reset every second (a fixed window) lets twice the limit through around the
//!   reset.
//! - `interval.tick()` before each call makes up for a stall: after 10 s at 10 a second, 100 calls go
//!   out at once. Here it is `burst`, after a year too.
//! - Timers count in whole milliseconds, and come late. The burst makes up for that: with a burst of
//!   1, 300 a second become 250, and 3,000 become 1,000. Allow at least 2, and no less than the rate
//!   gives in the time that a timer may be late.
//! - The limit is this process's: ten of them make ten times the calls. And it starts with the whole
//!   burst, so a process that is restarted begins with another one.
//! - It counts beginnings. One `ready` before a loop of three attempts allows three calls.
//! - Nothing limits how many wait: at 100 a second, the last of 1,000 gets its turn after 10 s. Put
//!   `ready` in a `timeout`, or refuse with `try_now`.
//! - A waiter that nobody polls (it stands beside a busy `select!` loop) holds back those behind it.
//!   Await it, or spawn it.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep};

/// How many calls may begin.
///
/// In any span of time it is no more than `burst` and what the rate gives in that span. So 100 calls a
/// second with a burst of 100 can be 200 in one second. Where no second may see more than 100, let
/// `calls` and `burst` be 100 together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls in each `period`, evenly: one per `period / calls`. No fraction is lost to rounding.
    pub calls: NonZeroU32,
    /// The time that `calls` are counted in. Not zero.
    pub period: Duration,
    /// Calls at once, after a pause that was long enough; 1 spaces all of them.
    pub burst: NonZeroU32,
}

/// Says when a call may begin. Its clones share the rate.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    rate: Rate,
    started: Instant,
    /// Held by the first waiter until its calls are counted. The others queue for it.
    turn: Arc<tokio::sync::Mutex<()>>,
    bucket: Arc<Mutex<Bucket>>,
}

/// A period of zero: no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the period is zero: give the time in which the calls are counted, such as a second")]
pub struct ZeroPeriod;

/// More calls at once than the limiter ever allows. Nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("more at once than the burst of {burst}, so never allowed: split it, or raise the burst")]
pub struct OverBurst {
    /// The limiter's burst.
    pub burst: NonZeroU32,
}

/// Not now. Nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("over the rate: try again in {after:?}")]
pub struct NotYet {
    /// From now until it is allowed, after all who wait, if nobody else comes first.
    pub after: Duration,
}

impl RateLimiter {
    /// A limiter with the whole burst.
    ///
    /// # Errors
    ///
    /// [`ZeroPeriod`].
    pub fn new(rate: Rate) -> Result<Self, ZeroPeriod> {
        if rate.period.is_zero() {
            return Err(ZeroPeriod);
        }
        Ok(Self {
            rate,
            started: Instant::now(),
            turn: Arc::default(),
            bucket: Arc::default(),
        })
    }

    /// Waits until a call may begin, in the order of the waiters, and counts it. To wait no longer
    /// than you like, put it in a `timeout`.
    ///
    /// # Panics
    ///
    /// If it has to wait outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has counted nothing, and those behind it move up.
    pub async fn ready(&self) {
        self.wait(NonZeroU32::MIN).await;
    }

    /// Waits until this many calls may begin at once, and counts them. Those behind it wait too, so
    /// that small calls do not starve a large one.
    ///
    /// # Errors
    ///
    /// [`OverBurst`], at once.
    ///
    /// # Panics
    ///
    /// If it has to wait outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has counted nothing, and those behind it move up.
    pub async fn ready_for(&self, calls: NonZeroU32) -> Result<(), OverBurst> {
        self.check(calls)?;
        self.wait(calls).await;
        Ok(())
    }

    /// Counts a call if it may begin now, without delay to those who wait.
    ///
    /// # Errors
    ///
    /// [`NotYet`] with the time until it may, for an answer such as HTTP's `Retry-After`.
    pub fn try_now(&self) -> Result<(), NotYet> {
        self.try_count(NonZeroU32::MIN)
    }

    /// Counts this many calls if all of them may begin now, without delay to those who wait. Use it
    /// as `limiter.try_now_for(calls)??`.
    ///
    /// # Errors
    ///
    /// [`OverBurst`] if they never may, and inside of it [`NotYet`] with the time until they may.
    pub fn try_now_for(&self, calls: NonZeroU32) -> Result<Result<(), NotYet>, OverBurst> {
        self.check(calls)?;
        Ok(self.try_count(calls))
    }

    fn check(&self, calls: NonZeroU32) -> Result<(), OverBurst> {
        let burst = self.rate.burst;
        (calls <= burst).then_some(()).ok_or(OverBurst { burst })
    }

    async fn wait(&self, calls: NonZeroU32) {
        let _place = Place::new(self, calls);
        let _turn = self.turn.lock().await;
        // More than one turn only for waits beyond the 30 years that a timer goes.
        while let Err(NotYet { after }) = self.count(calls, |_| 0) {
            sleep(after).await;
        }
    }

    fn try_count(&self, calls: NonZeroU32) -> Result<(), NotYet> {
        self.count(calls, |bucket| bucket.waiting)
    }

    /// Counts `calls` if they are allowed by now, together with those `ahead` of them.
    fn count(&self, calls: NonZeroU32, ahead: impl Fn(&Bucket) -> u128) -> Result<(), NotYet> {
        let per_ns = u128::from(self.rate.calls.get());
        let cost = |calls: u128| calls.saturating_mul(self.rate.period.as_nanos());
        let calls = u128::from(calls.get());
        let mut bucket = self.bucket();
        let now = self.started.elapsed().as_nanos().saturating_mul(per_ns);
        let full_at = bucket.full_at.max(now); // not fuller than full, however long ago that was
        let due = full_at
            .saturating_add(cost(ahead(&bucket).saturating_add(calls)))
            .saturating_sub(cost(self.rate.burst.get().into()));
        if due <= now {
            bucket.full_at = full_at.saturating_add(cost(calls));
            return Ok(());
        }
        let nanos = (due - now).div_ceil(per_ns);
        let after = Duration::from_nanos_u128(nanos.min(Duration::MAX.as_nanos()));
        Err(NotYet { after })
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time is in units of 1 ns / `rate.calls`, since `started`. A call then costs `rate.period` in ns,
/// without a remainder. The largest burst of the largest period is less than 2^127.
#[derive(Debug, Default)]
struct Bucket {
    /// When the whole burst is there again, if nothing is counted until then.
    full_at: u128,
    /// Calls that are waited for.
    waiting: u128,
}

/// A place in the queue, which `try_now` does not overtake. A waiter that is dropped gives it up.
struct Place<'a> {
    limiter: &'a RateLimiter,
    calls: u128,
}

impl<'a> Place<'a> {
    fn new(limiter: &'a RateLimiter, calls: NonZeroU32) -> Self {
        let calls = calls.get().into();
        limiter.bucket().waiting += calls;
        Self { limiter, calls }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.limiter.bucket().waiting -= self.calls;
    }
}
