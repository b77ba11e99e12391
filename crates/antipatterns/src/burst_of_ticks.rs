//! # Burst of ticks: an interval after a stall
//!
//! A client asks a server each second, with `interval`, as the documentation shows. The server
//! hangs for a minute and comes back; in the same instant it is asked sixty times. So do all the
//! other clients, and it hangs again.
//!
//! ## You have it when
//! - after an outage, a pause in a debugger or a slow disk the load is a multiple of the usual one;
//! - an `interval` is made without a `set_missed_tick_behavior`: its default is `Burst`.
//!
//! ## What it does to you
//! - A call of 60 s in an interval of 1 s is followed by 60 calls in the same millisecond.
//! - A job of 150 ms each 100 ms falls behind unnoticed: after an hour 12,000 ticks are to be made
//!   up for. On the day that it becomes fast it runs 12,000 times without a pause.
//!
//! ## Use instead
//! - `missed_ticks`: the behaviour is a parameter, and each tick says how many were missed;
//! - `periodic`, which runs the job as well, to its end, until a stop.

use std::time::Duration;

use tokio::time::interval;

/// Calls `poll` at each `period`.
pub async fn poll_each(period: Duration, mut poll: impl AsyncFnMut()) {
    let mut ticks = interval(period);
    loop {
        ticks.tick().await; // at once, for each period that has passed without a tick
        poll().await;
    }
}
