//! # Rebuilt sleep: an idle timeout in a select! branch
//!
//! A session ends when nothing has come for a minute: `sleep(idle)` is a branch of its `select!`,
//! and each message begins it anew, as it should. Then a ping is added, as one more branch, and
//! from that day no session ends any more.
//!
//! ## You have it when
//! - connections of peers that are long gone add up, until file descriptors run out:
//!   `Too many open files`;
//! - `sleep(…)` or `timeout(…)` is written inside of the loop, and another branch is ready more
//!   often than it is due.
//!
//! ## What it does to you
//! - With a ping each 20 s, an idle limit of 60 s has not come after a day and 4,320 pings. Each
//!   turn of the loop drops the `Sleep` and makes a new one.
//! - A limit on the whole session, written the same way, is as long as messages keep coming: 1,440
//!   of them, one a minute, in a session that was to last 5 minutes.
//! - Without the ping it is right, to the millisecond, and its test passes.
//!
//! ## Use instead
//! - `schedule_at`: its `IdleTimeout` counts from the last message, however often it is asked;
//! - `deadline` for the limit on the whole: an instant, made once, outside of the loop.

use std::time::Duration;

use tokio::select;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Interval, sleep};

/// Handles messages until none has come for `idle`; pings the peer meanwhile.
pub async fn session<M>(
    messages: &mut Receiver<M>,
    idle: Duration,
    pings: &mut Interval,
    mut handle: impl FnMut(M),
    mut ping: impl FnMut(),
) {
    loop {
        select! {
            Some(message) = messages.recv() => handle(message),
            _ = pings.tick() => ping(),
            () = sleep(idle) => return, // a new one in each turn, a ping's turn included
        }
    }
}

/// Handles messages for as long as `lasts`.
pub async fn limited_session<M>(
    messages: &mut Receiver<M>,
    lasts: Duration,
    mut handle: impl FnMut(M),
) {
    loop {
        select! {
            Some(message) = messages.recv() => handle(message),
            () = sleep(lasts) => return, // counts from the last message, not from the start
        }
    }
}
