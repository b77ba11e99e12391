//! # Schedule at: sleep_until, a timer that is moved, an idle timeout
//!
//! Something is to happen at an instant, and the instant changes: a lease is renewed, a retry comes
//! forward, each message puts off the end of a quiet connection. A `sleep` that is made anew in every
//! turn of a loop starts anew as well. Here are an alarm that is set, moved and cleared, an idle
//! timeout whose owner only says "something happened", and a wait for a time of day.
//!
//! ## Use it when
//! - the instant is known before and may still move: an [`Alarm`];
//! - a connection, a session, a lease ends when nothing happens for a while: an [`IdleTimeout`];
//! - the instant is a time of the wall clock, which can be set: [`sleep_until_time`].
//!
//! ## Use something else when
//! - one operation must be done by then: `deadline`;
//! - it happens again and again: `periodic`, `missed_ticks`;
//! - it happens once after a burst of events, and needs the last of them: `debounce`;
//! - there are many of them, each with its item: `DelayQueue` of tokio-util.
//!
//! ## Add to your project
//! ```console
//! cargo add tokio --features time
//! ```
//!
//! ## Watch out
//! - `sleep(limit)` written in a `select!` branch is rebuilt in each turn: every other branch that is
//!   ready puts it off, a heartbeat included. Then an idle timeout of a minute never comes, as shown
//!   in `rebuilt_sleep`.
//! - A `Sleep` that is over stays over: awaited again without a reset, it is ready at once, and the
//!   loop spins.
//! - `Instant::now() + Duration::MAX` panics. Here, what is too far away for the clock never comes.
//! - Tokio's clock follows no adjustment of the wall clock. A `sleep` of "the seconds until 03:00"
//!   comes an hour late if the clock is put forward by one.

use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Rings at an instant that can be moved. Rings once, then waits to be set again.
#[derive(Debug, Default)]
pub struct Alarm {
    /// Kept over the rings: to move a timer is cheaper than to make one.
    timer: Option<Pin<Box<Sleep>>>,
    due: Option<Instant>,
}

impl Alarm {
    /// An alarm that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rings at `due`, at once if that has passed. What it was set to before is forgotten.
    pub fn set(&mut self, due: Instant) {
        self.due = Some(due);
    }

    /// Rings `after` this time from now; never if no clock reaches that.
    pub fn set_after(&mut self, after: Duration) {
        self.due = Instant::now().checked_add(after);
    }

    /// Does not ring until it is set again.
    pub fn clear(&mut self) {
        self.due = None;
    }

    /// When it will ring.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Waits until the alarm rings, and returns the instant it was set to. While it is not set, it
    /// waits for ever: in `select!`, next to the branch that sets it.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, the alarm is still set, and still rings at the same instant.
    pub async fn ring(&mut self) -> Instant {
        let Some(due) = self.due.filter(can_come) else {
            return pending().await;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().await;
        self.due = None;
        due
    }
}

/// Comes when nothing has happened for a while. A clone belongs to the same timeout, so that a
/// reader and a writer can both put it off.
#[derive(Debug, Clone)]
pub struct IdleTimeout {
    limit: Duration,
    last: Arc<Mutex<Instant>>,
}

impl IdleTimeout {
    /// Begins now.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            last: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Something happened: the whole limit is left again. Moves no timer, so it may be called for
    /// every packet.
    pub fn touch(&self) {
        let now = Instant::now();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// When the limit is reached, should nothing happen until then. `None`: after the end of any
    /// clock.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.checked_add(self.limit)
    }

    /// Waits until nothing has happened for the limit. Wakes up at most once per limit, however many
    /// events there are.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has changed nothing: the limit still counts from the last
    /// [`touch`](Self::touch).
    pub async fn expired(&self) {
        loop {
            let Some(due) = self.due().filter(can_come) else {
                return pending().await;
            };
            sleep_until(due).await;
            if self.due() == Some(due) {
                return; // else somebody put it off in the meantime
            }
        }
    }
}

/// Waits until the wall clock shows `time` or later. It looks at the clock again after `recheck` at
/// the latest, so a clock that is set forward or back in the meantime costs at most that much.
///
/// `now` reads the clock: `SystemTime::now` in a program, whatever a test likes in a test. A
/// `recheck` below a millisecond counts as one.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without timers.
///
/// # Cancel safety
///
/// Dropped before it is done, nothing is lost: called again, it waits for what is left.
pub async fn sleep_until_time(now: impl Fn() -> SystemTime, time: SystemTime, recheck: Duration) {
    let recheck = recheck.max(Duration::from_millis(1));
    while let Ok(left) = time.duration_since(now()) {
        if left.is_zero() {
            return;
        }
        sleep(left.min(recheck)).await;
    }
}

/// A timer rounds up to a millisecond, and panics if the clock cannot count that far.
fn can_come(due: &Instant) -> bool {
    due.checked_add(Duration::from_millis(1)).is_some()
}
