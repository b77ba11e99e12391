//! # Vacuous test: a paused clock that waits for any timer
//!
//! The code has timers, so its test pauses the clock, waits until something has happened three
//! times, and is green in a millisecond. It is as green with a period of a year: a paused clock
//! jumps to the next timer, wherever that is, as soon as nobody has anything to do.
//!
//! ## You have it when
//! - a test with `start_paused = true` awaits ticks, retries or time limits, and asserts nothing
//!   about `Instant::now()`;
//! - seconds became milliseconds by mistake, in production, and every test had passed;
//! - change a period, a backoff or a limit to a year: no test fails.
//!
//! ## What it does to you
//! - Three helpers as they are found in tests accept a job "each 100 ms", a time limit of "a
//!   second" and a backoff of "at least 100 ms" with the right value, and with 31,536,000 seconds.
//! - The backoff's, which at least looks at the clock, finds one that is too short, and none that
//!   is too long.
//!
//! ## Use instead
//! - `paused_clock`: `Timeline` compares instants with those that you expect, `takes` one duration.

use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

/// The job runs each 100 ms: three runs come.
///
/// # Panics
///
/// If they do not.
pub async fn check_that_it_runs(runs: &mut Receiver<()>) {
    for _ in 0..3 {
        assert!(runs.recv().await.is_some()); // the clock jumps until there is one
    }
}

/// The call has a time limit of a second: it gives up.
///
/// # Panics
///
/// If it does not.
pub async fn check_that_it_gives_up<T, E>(call: impl Future<Output = Result<T, E>>) {
    assert!(call.await.is_err()); // it does, at the end of any limit
}

/// There is a backoff: a second attempt comes 100 ms later at the earliest.
///
/// # Panics
///
/// If it comes earlier.
pub async fn check_that_it_backs_off(second_attempt: impl Future<Output = ()>) {
    let started = Instant::now();
    second_attempt.await;
    assert!(started.elapsed() >= Duration::from_millis(100)); // a year is more than that
}
