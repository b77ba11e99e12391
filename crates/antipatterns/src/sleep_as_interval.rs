//! # Sleep as an interval: a schedule that drifts
//!
//! A job is to run each second: `job().await`, then `sleep` for a second, in a loop. The pause
//! begins when the job is done, so the period is the second and what the job takes, more on a busy
//! day. Nobody notices: it runs, and about each second.
//!
//! ## You have it when
//! - samples "each second" are 3,429 an hour, and a chart of them has holes that wander;
//! - a job of the full minute comes at 12:00:00 in the morning and at 12:00:51 in the evening;
//! - counted per minute, the same load looks smaller the slower the machine is.
//!
//! ## What it does to you
//! - A job of 50 ms, each second: 171 of 3,600 runs are missing after an hour.
//! - A job of 0.1 ms, each 10 ms: a tenth of the runs are missing. Timers end on whole milliseconds
//!   of the runtime's clock, so the tenth puts the end off by a whole one.
//!
//! ## Use instead
//! - `periodic`, which keeps to instants counted from the start, and what a stall does to them is a
//!   parameter;
//! - `missed_ticks` for ticks in a loop of your own. Where a pause is meant (between two calls of
//!   one server), that is its `Delay`, or this `sleep`.

use std::time::Duration;

use tokio::time::sleep;

/// Runs `job` each `period`.
pub async fn run_each(period: Duration, mut job: impl AsyncFnMut()) {
    loop {
        job().await;
        sleep(period).await; // from now on, not from the last time
    }
}
