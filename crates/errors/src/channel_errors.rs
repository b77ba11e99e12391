//! # Channel errors: full, closed, and the item back
//!
//! A send fails because the queue is full or because nobody will ever read it, and the caller wants
//! the item back: to try again, to put it elsewhere, to answer whoever sent it. Tokio's channels say
//! all that in ten error types, some with the item and some without. Here they become two: what was
//! not sent, with the item and the reason, and why nothing was received.
//!
//! ## Use it when
//! - a function sends or receives on a channel and its own error must say what went wrong;
//! - an item that cannot be delivered must not vanish.
//!
//! ## Use something else when
//! - the caller should rather wait, reject or drop by a policy of yours: `work_queue`, `event_bus`;
//! - items are moved from one channel to another: `forward`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features macros,sync,time
//! ```
//!
//! ## Watch out
//! - `timeout(limit, sender.send(item))` drops the item with the future. [`send_unless`] and tokio's
//!   `send_timeout` give it back.
//! - `Ok` from a send says that the item is in the queue. A receiver that is dropped takes what is in
//!   there with it: if it matters, wait for an answer, as `request_reply` does.
//! - `while let Ok(event) = events.recv().await` on a broadcast channel ends at the first `Lagged`,
//!   though the channel is open: `lagged_as_closed`. [`NotReceived::Missed`] is not
//!   [`NotReceived::Closed`].
//! - A broadcast send without a subscriber fails, and the next one may succeed: it is closed only for
//!   the moment.

use std::fmt;

use thiserror::Error;
use tokio::select;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// An item that was not sent.
///
/// To put it into an error of your own that has no room for the item, take its `reason`, which is
/// `Copy` and an error as well.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Unsent<T> {
    /// The item, as it was given.
    pub item: T,
    /// Why it was not sent.
    pub reason: Reason,
}

/// Why something was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Reason {
    /// There was no room, or not in time. Later there may be.
    #[error("the channel is full: its receiver is slower than its senders")]
    Full,
    /// Nobody receives. On a broadcast channel, nobody does now.
    #[error("nobody receives from the channel")]
    Closed,
}

/// Why nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotReceived {
    /// Nothing is there yet.
    #[error("the channel is empty")]
    Empty,
    /// All senders are gone, and nothing is left. From a oneshot channel: there will be no answer.
    #[error("whoever sent to the channel is gone")]
    Closed,
    /// So many messages were overwritten before this receiver came to them. The next call gives the
    /// oldest that is left.
    #[error("{0} messages were overwritten before they were received")]
    Missed(u64),
}

/// Sends `item`, and gives it back if `give_up` completes first: a `sleep`, a token's `cancelled`.
///
/// # Errors
///
/// [`Unsent`] with [`Reason::Full`] if there was no room before `give_up`, or [`Reason::Closed`].
///
/// # Cancel safety
///
/// Dropped before it is done, it drops the item unsent. Let `give_up` end it instead.
pub async fn send_unless<T>(
    sender: &mpsc::Sender<T>,
    item: T,
    give_up: impl Future,
) -> Result<(), Unsent<T>> {
    let reason = select! {
        biased; // with room there is no reason to give up
        room = sender.reserve() => match room {
            Ok(permit) => {
                permit.send(item);
                return Ok(());
            }
            Err(_) => Reason::Closed,
        },
        _ = give_up => Reason::Full,
    };
    Err(Unsent { item, reason })
}

/// For `oneshot::Sender::send`, whose error is the bare item.
///
/// # Errors
///
/// [`Unsent`] if the receiver is gone.
pub fn answered<T>(sent: Result<(), T>) -> Result<(), Unsent<T>> {
    sent.map_err(Unsent::closed)
}

impl<T> Unsent<T> {
    fn closed(item: T) -> Self {
        let reason = Reason::Closed;
        Self { item, reason }
    }

    fn full(item: T) -> Self {
        let reason = Reason::Full;
        Self { item, reason }
    }
}

impl<T> From<mpsc::error::TrySendError<T>> for Unsent<T> {
    fn from(error: mpsc::error::TrySendError<T>) -> Self {
        match error {
            mpsc::error::TrySendError::Full(item) => Self::full(item),
            mpsc::error::TrySendError::Closed(item) => Self::closed(item),
        }
    }
}

impl<T> From<mpsc::error::SendTimeoutError<T>> for Unsent<T> {
    fn from(error: mpsc::error::SendTimeoutError<T>) -> Self {
        match error {
            mpsc::error::SendTimeoutError::Timeout(item) => Self::full(item),
            mpsc::error::SendTimeoutError::Closed(item) => Self::closed(item),
        }
    }
}

impl<T> From<mpsc::error::SendError<T>> for Unsent<T> {
    fn from(mpsc::error::SendError(item): mpsc::error::SendError<T>) -> Self {
        Self::closed(item)
    }
}

impl<T> From<broadcast::error::SendError<T>> for Unsent<T> {
    fn from(broadcast::error::SendError(item): broadcast::error::SendError<T>) -> Self {
        Self::closed(item)
    }
}

impl<T> From<watch::error::SendError<T>> for Unsent<T> {
    fn from(watch::error::SendError(item): watch::error::SendError<T>) -> Self {
        Self::closed(item)
    }
}

impl From<mpsc::error::TryRecvError> for NotReceived {
    fn from(error: mpsc::error::TryRecvError) -> Self {
        match error {
            mpsc::error::TryRecvError::Empty => Self::Empty,
            mpsc::error::TryRecvError::Disconnected => Self::Closed,
        }
    }
}

impl From<oneshot::error::RecvError> for NotReceived {
    fn from(_: oneshot::error::RecvError) -> Self {
        Self::Closed
    }
}

impl From<oneshot::error::TryRecvError> for NotReceived {
    fn from(error: oneshot::error::TryRecvError) -> Self {
        match error {
            oneshot::error::TryRecvError::Empty => Self::Empty,
            oneshot::error::TryRecvError::Closed => Self::Closed,
        }
    }
}

impl From<broadcast::error::RecvError> for NotReceived {
    fn from(error: broadcast::error::RecvError) -> Self {
        match error {
            broadcast::error::RecvError::Closed => Self::Closed,
            broadcast::error::RecvError::Lagged(missed) => Self::Missed(missed),
        }
    }
}

impl From<broadcast::error::TryRecvError> for NotReceived {
    fn from(error: broadcast::error::TryRecvError) -> Self {
        match error {
            broadcast::error::TryRecvError::Empty => Self::Empty,
            broadcast::error::TryRecvError::Closed => Self::Closed,
            broadcast::error::TryRecvError::Lagged(missed) => Self::Missed(missed),
        }
    }
}

impl From<watch::error::RecvError> for NotReceived {
    fn from(_: watch::error::RecvError) -> Self {
        Self::Closed
    }
}

/// By hand: it does not show the item, which need not implement `Debug` and may be a secret.
impl<T> fmt::Debug for Unsent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsent")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}
