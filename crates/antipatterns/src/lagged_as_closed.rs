//! # Lag taken for the end: while let Ok(event) = events.recv()
//!
//! A subscriber reads a broadcast channel with `while let Ok`, as one reads an mpsc channel with
//! `while let Some`. One slow event and it is behind by more than the capacity. The next `recv`
//! returns an error that is not the end, and the loop takes it for one.
//!
//! ## You have it when
//! - a subscriber does nothing any more after a busy minute, without an error, until the next
//!   restart;
//! - or its copy of something differs from the original by a little, for ever;
//! - where the error is printed, the log says `channel lagged by 24`.
//!
//! ## What it does to you
//! - One event in 1,000 that takes 0.1 s instead of none, with a capacity of 16: the loop ends
//!   there, and 990 events are never handled. The publisher hears of it only if this was the last
//!   subscriber: then each `send` is an error.
//! - With the error passed over it goes on, and a sum that it keeps is short by 34, for ever.
//! - It happens under load only: up to 16 events behind, nothing is lost.
//!
//! ## Use instead
//! - `event_bus`, whose subscriber is told what it missed, and gets the state as it is now instead;
//! - `work_queue` when each event must be handled by somebody: there the publisher waits.

use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Handles every event until the channel is closed.
pub async fn handle_all<E: Clone>(mut events: Receiver<E>, mut handle: impl AsyncFnMut(E)) {
    // An error is the end, or a lag: then there are further events, and this leaves them.
    while let Ok(event) = events.recv().await {
        handle(event).await;
    }
}

/// The same, after somebody found out why it ended.
pub async fn handle_all_but_some<E: Clone>(
    mut events: Receiver<E>,
    mut handle: impl AsyncFnMut(E),
) {
    loop {
        match events.recv().await {
            Ok(event) => handle(event).await,
            Err(RecvError::Lagged(_)) => {} // and who makes up for them?
            Err(RecvError::Closed) => return,
        }
    }
}
