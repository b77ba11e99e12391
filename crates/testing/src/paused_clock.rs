//! # Paused clock: start_paused, advance, resume
//!
//! A test of timers should take no time and give the same result on every machine. Tokio's clock can
//! be paused for that: it then stands still while any task has work, and jumps to the next timer when
//! none has. The jump is also the trap, for a test that waits for a timer then passes whatever the
//! timer says. What is here puts the instants themselves under test.
//!
//! ## Use it when
//! - the code under test has timers: a period, a deadline, a backoff, a debounce;
//! - a test sleeps "for long enough", or is flaky on a busy machine.
//!
//! It finds wrong periods, deadlines and orders of timed steps, to the millisecond. It cannot find
//! races between threads (the runtime has one), nor slow code: computing takes no virtual time.
//!
//! ## Use something else when
//! - the test needs several threads, or real time: `test_flavors`;
//! - it waits for real sockets or processes most of the time: use `tokio::io::duplex`, `mock_io` or
//!   `simulate_network`, which need no real ones.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt,test-util,time
//! ```
//! It belongs in your tests: `cargo add --dev` and a file in `tests/` serve as well.
//!
//! ## Watch out
//! - Waiting for a timer proves nothing about it. This passes with any period, a year included; so do
//!   the helpers in `vacuous_paused_test`. Check the instants: [`Timeline::check`] for a history,
//!   [`takes`] for one future.
//!   ```
//!   #[tokio::main(flavor = "current_thread", start_paused = true)] // #[tokio::test(…)] in a test
//!   async fn main() {
//!       let year = std::time::Duration::from_secs(365 * 24 * 60 * 60);
//!       let mut interval = tokio::time::interval(year); // should have been 100 ms
//!       for _ in 0..3 {
//!           interval.tick().await;
//!       }
//!   }
//!   ```
//! - No better are "at least so long" (`elapsed() >= …`) and "a timeout comes"
//!   (`timeout(…).is_err()`): each passes with any longer, or any, duration.
//! - `advance` jumps in one step: a task whose ticks are due at 100, 200 and 300 ms sees all of them
//!   at the end. And when it returns, what it woke has not yet run. Use [`run_for`].
//! - A wait for a real socket, thread or process lets the clock jump to the next timer, so every
//!   timeout around it fires at once. Keep the clock still meanwhile: [`hold_clock`].
//!   `spawn_blocking` does so by itself while its closure runs.
//! - `std::time::Instant` and `SystemTime` go on. So does tokio's `Instant::now()` in a thread that is
//!   not the runtime's.
//! - Timers fire on whole milliseconds since the runtime's start. `pause()` in the middle of one, or
//!   an `advance` by 0.5 ms, leaves the clock between two: from there `sleep(10 ms)` takes 11.
//!   `start_paused` begins at zero, and there it takes 10.
//! - Pausing twice, resuming or advancing a clock that runs, and `pause` on a multi-thread runtime
//!   are panics.

use std::fmt::{self, Debug};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

/// What happened, and when. Clone it into every task that has something to note; all clones share
/// one history.
#[derive(Debug, Clone)]
pub struct Timeline<E> {
    started: Instant,
    runtime: Handle,
    events: Arc<Mutex<Vec<(Duration, E)>>>,
}

impl<E> Timeline<E> {
    /// An empty history. Now is its zero.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            runtime: Handle::current(),
            events: Arc::default(),
        }
    }

    /// Adds an event at the present instant of the clock, from any task or thread.
    pub fn note(&self, event: E) {
        let _the_clock = self.runtime.enter(); // another thread's would be the real one
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push((self.started.elapsed(), event)); // read under the lock, so they stay in order
    }

    /// Everything noted so far, with the time since the start, for assertions of your own.
    #[must_use]
    pub fn history(&self) -> Vec<(Duration, E)>
    where
        E: Clone,
    {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.clone()
    }

    /// Compares all that was noted so far with `expected`, whose instants are in milliseconds since
    /// the start. Events at the same instant must come in the same order too.
    ///
    /// # Errors
    ///
    /// [`Mismatch`], which shows the difference; `unwrap` prints it.
    pub fn check(&self, expected: impl IntoIterator<Item = (u64, E)>) -> Result<(), Mismatch>
    where
        E: PartialEq + Debug,
    {
        let expected = expected.into_iter();
        let expected = expected.map(|(millis, event)| (Duration::from_millis(millis), event));
        let expected: Vec<_> = expected.collect();
        let happened = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if *happened == expected {
            return Ok(());
        }
        Err(Mismatch(difference(&expected, &happened)))
    }
}

/// Two histories side by side. `Debug` shows it like `Display`, so that `unwrap` is readable.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("the history differs (- expected, + happened):\n{0}")]
pub struct Mismatch(String);

impl Debug for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One line for each event, in the order of time.
fn difference<E>(mut expected: &[(Duration, E)], mut happened: &[(Duration, E)]) -> String
where
    E: PartialEq + Debug,
{
    let mut lines = String::new();
    loop {
        let (sign, (at, event)) = match (expected, happened) {
            ([], []) => return lines,
            ([same, rest @ ..], [also, others @ ..]) if same == also => {
                (expected, happened) = (rest, others);
                (' ', same)
            }
            ([missing, rest @ ..], []) => {
                expected = rest;
                ('-', missing)
            }
            // The earlier of the two; at the same instant, the one that has no line further down.
            ([missing, rest @ ..], [other, ..])
                if missing.0 < other.0 || (missing.0 == other.0 && rest.contains(other)) =>
            {
                expected = rest;
                ('-', missing)
            }
            (_, [unexpected, others @ ..]) => {
                happened = others;
                ('+', unexpected)
            }
        };
        lines += &format!("  {sign} {at:>8?}  {event:?}\n");
    }
}

/// A future did not take the time that [`takes`] was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WrongTime {
    /// It ended, too soon or too late.
    #[error("took {took:?}, not {expected:?}")]
    Took {
        /// What was expected.
        expected: Duration,
        /// What it took.
        took: Duration,
    },
    /// It did not end, and was dropped.
    #[error("still running after {after:?}, expected to take {expected:?}")]
    StillRunning {
        /// What was expected.
        expected: Duration,
        /// When it was dropped: ten times that and a minute.
        after: Duration,
    },
}

/// Awaits `future` and returns its value, if the clock moves by exactly `expected` meanwhile.
///
/// # Errors
///
/// [`WrongTime`] with the time it took, or if it is still running after ten times `expected` and a
/// minute.
///
/// # Cancel safety
///
/// Dropping it drops `future` where it is, and nothing else.
pub async fn takes<T>(expected: Duration, future: impl Future<Output = T>) -> Result<T, WrongTime> {
    let after = expected
        .saturating_mul(10)
        .saturating_add(Duration::from_secs(60));
    let started = Instant::now();
    let Ok(value) = timeout(after, future).await else {
        return Err(WrongTime::StillRunning { expected, after });
    };
    let took = started.elapsed();
    if took == expected {
        return Ok(value);
    }
    Err(WrongTime::Took { expected, took })
}

/// How long [`settle`] waits for the tasks to come to rest.
const REAL_PATIENCE: Duration = Duration::from_secs(3);

/// Why [`settle`] and [`run_for`] gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotSettled {
    /// After three seconds of real time there was still a task that is ready: one that computes, or
    /// yields or polls in a loop.
    #[error("the tasks do not come to rest: one computes for long, or yields in a loop")]
    Busy,
    /// There is no paused clock on a multi-thread runtime, nor one moment at which all is idle.
    #[error("only a current-thread runtime can be settled")]
    NotCurrentThread,
}

/// Lets virtual time pass, and all that happens in it happen: each timer up to then fires at its own
/// instant, and what it woke has run until it waits again.
///
/// The clock moves by `duration`, rounded up to the next whole millisecond of the runtime.
///
/// # Errors
///
/// [`NotSettled`].
///
/// # Panics
///
/// If polled outside of a Tokio runtime.
///
/// # Cancel safety
///
/// Dropped before it is done, it leaves the clock where it has got to, free to move.
pub async fn run_for(duration: Duration) -> Result<(), NotSettled> {
    // The runtime's own jumps are from timer to timer, in order. `advance` would make a single one.
    sleep(duration).await;
    settle().await // this sleep may have been polled before others that end at the same instant
}

/// Waits until every task of the runtime waits for something, without moving the clock. A guess like
/// "ten times `yield_now`" is too short for some chain of tasks.
///
/// # Errors
///
/// [`NotSettled`].
///
/// # Panics
///
/// If polled outside of a Tokio runtime.
///
/// # Cancel safety
///
/// Dropped before it is done, it leaves the clock where it was, free to move.
pub async fn settle() -> Result<(), NotSettled> {
    let runtime = Handle::current();
    if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
        return Err(NotSettled::NotCurrentThread);
    }
    let metrics = runtime.metrics();
    let parked_before = metrics.worker_park_count(0);
    let (_drop_stops_it, stopped) = sync_channel::<()>(0);
    // The runtime's thread parks only when no task is ready, so another one must watch for it. As
    // long as this closure runs, tokio does not move the clock.
    let watcher = spawn_blocking(move || {
        let (mut waited, mut wait) = (Duration::ZERO, Duration::from_micros(20));
        while metrics.worker_park_count(0) == parked_before {
            if waited > REAL_PATIENCE {
                return Err(NotSettled::Busy);
            }
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                break; // the caller is gone
            }
            waited += wait;
            wait = (2 * wait).min(Duration::from_millis(5));
        }
        Ok(())
    });
    watcher.await.unwrap_or(Ok(())) // no end of the closure: the runtime is shutting down
}

/// Keeps the paused clock from jumping while it lives: see [`hold_clock`].
#[derive(Debug)]
#[must_use = "the clock is free again when this is dropped"]
pub struct ClockHold {
    _drop_ends_it: SyncSender<()>,
}

/// Keeps the paused clock still until the returned guard is dropped, although no task has work.
/// Real input and output go on; timers wait, that of [`run_for`] too. Only
/// [`advance`](tokio::time::advance) moves the clock.
///
/// It occupies one of the runtime's blocking threads. **A guard that is leaked keeps the runtime from
/// ending.** It has no effect on a multi-thread runtime.
///
/// # Panics
///
/// If called outside of a Tokio runtime.
pub fn hold_clock() -> ClockHold {
    let (_drop_ends_it, dropped) = sync_channel::<()>(0);
    drop(spawn_blocking(move || dropped.recv()));
    ClockHold { _drop_ends_it }
}
