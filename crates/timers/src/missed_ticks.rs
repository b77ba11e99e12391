//! # Missed ticks: interval and MissedTickBehavior
//!
//! A loop waits for an interval's tick, works, and waits for the next. One day the work takes longer
//! than the period. What then? Tokio's `Interval` has three answers, takes the one that surprises
//! most people unless told otherwise, and never says that it was late. This ticker makes the choice
//! a parameter, and each tick tells how late it is and how many others were missed.
//!
//! After the same stall of 350 ms, a period of 100 ms ticks at:
//!
//! | Behavior | Ticks at, in ms | For |
//! | --- | --- | --- |
//! | `Burst` (tokio's default) | 350 350 350 400 500 | as many runs as periods: one row for each minute |
//! | `Delay` | 350 450 550 650 750 | a pause between runs: a poll of somebody's server |
//! | `Skip` | 350 400 500 600 700 | the schedule's own instants, each at most once: a heartbeat |
//!
//! ## Use it when
//! - the loop does more than tick, or has to know that it fell behind: a sampler, a heartbeat.
//!
//! ## Use something else when
//! - the ticks only run a job, which may fail, until a stop: `periodic`;
//! - it happens once, or each event puts it off: `schedule_at`, `debounce`;
//! - so many per second are allowed, from many callers: `limit_rate`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features time
//! ```
//!
//! ## Watch out
//! - A new `Interval` ticks at once, and `Burst` is its default: after a stall of an hour, a period
//!   of a second gives 3,600 ticks without a pause, as shown in `burst_of_ticks`. Choose.
//! - `Interval::tick` returns the instant at which the tick was due, not the one at which it came.
//! - A tick up to 5 ms late counts as punctual, whatever the behavior: with a period below that,
//!   `Delay` and `Skip` burst as well.
//! - `sleep(period)` in a loop is no interval: each turn takes the work's time longer, and the drift
//!   adds up (`sleep_as_interval`).

use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// Ticks on a period, and tells of each tick how late it is.
#[derive(Debug)]
pub struct Ticker {
    interval: Interval,
}

/// One tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// When it was to come.
    pub due: Instant,
    /// How much later it came.
    pub late_by: Duration,
    /// How many further ticks came due by then. With `Burst` they are the next ones to come, at once;
    /// with `Delay` and `Skip` they never come, unless the tick is not more than 5 ms late.
    pub missed: u64,
}

/// The period is zero, and an interval of zero would never pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the period of a ticker is zero: give it at least a millisecond")]
pub struct ZeroPeriod;

impl Ticker {
    /// A ticker whose first tick comes at `first`, and is late if that has passed. Tokio's clock
    /// counts milliseconds, rounded up. A period of more than 30 years counts as 30 years.
    ///
    /// # Errors
    ///
    /// [`ZeroPeriod`] if `period` is zero: tokio's `interval` would panic.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime, or in one without timers.
    pub fn new(
        first: Instant,
        period: Duration,
        after_a_stall: MissedTickBehavior,
    ) -> Result<Self, ZeroPeriod> {
        if period.is_zero() {
            return Err(ZeroPeriod);
        }
        // A timer rounds up to a millisecond, and panics if the clock cannot count that far.
        let rounding = Duration::from_millis(1);
        let first = match first.checked_add(rounding) {
            Some(_) => first,
            None => first - rounding, // never, all the same
        };
        let mut interval = interval_at(first, period);
        interval.set_missed_tick_behavior(after_a_stall);
        Ok(Self { interval })
    }

    /// Waits for the next tick.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has taken no tick: the next call gets it.
    pub async fn tick(&mut self) -> Tick {
        let due = self.interval.tick().await;
        let late_by = due.elapsed();
        let missed = late_by.as_nanos() / self.interval.period().as_nanos();
        Tick {
            due,
            late_by,
            missed: u64::try_from(missed).unwrap_or(u64::MAX),
        }
    }

    /// Puts the next tick at one period from now, as if one had just come.
    pub fn restart(&mut self) {
        self.interval.reset();
    }
}
