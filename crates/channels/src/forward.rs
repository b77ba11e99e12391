//! # Forward: reserve before recv
//!
//! A task moves items from one channel to another: to merge inputs, to change their type, to put a
//! limit between two stages. Somebody wraps it in a timeout, races it in `select!` or aborts it, and
//! an item that had left the one channel and not yet reached the other is gone without a trace.
//! Here an item leaves only once its place at the other end is reserved.
//!
//! ## Use it when
//! - items pass from channel to channel, and the one in between can be cancelled;
//! - your own `select!` loop receives an item and has to await before it is safe somewhere else.
//!
//! ## Use something else when
//! - the receiver of the second channel can read from the first as well: one channel is enough;
//! - items wait for work, not for room: `work_queue`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features macros,sync
//! ```
//!
//! ## Watch out
//! - `to.send(from.recv().await)` is two awaits with an item in between: cancelled while `to` is
//!   full, it has taken an item and drops it, as shown in `item_lost_in_select`.
//! - While it waits for an item, [`forward`] keeps one place of `to` reserved. The capacity of `to`
//!   must exceed the number of forwarders into it, or idle ones keep a busy one out.
//! - While `to` is full, the end of `from` is noticed only once there is room: let somebody read `to`.
//! - Cancelled while `to` is full, it gives up its turn and queues again from the end: cancelled often
//!   enough, and with others that send, it may never have its turn.
//! - What lies in a channel is dropped with its receiver. Drain `to` before you drop it.

use thiserror::Error;
use tokio::select;
use tokio::sync::mpsc::{Receiver, Sender};

/// Nobody receives from the target any more. What was not moved, if anything, is in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the target channel is closed; what was not moved is still in the source")]
pub struct TargetClosed;

/// Moves items from `from` to `to`, each through `convert`, until `from` has ended: every sender
/// gone, or `from` closed and no place in it reserved any more, and everything moved. Items keep their
/// order, and a full `to` holds `from` back.
///
/// # Errors
///
/// [`TargetClosed`] as soon as the receiver of `to` is closed or dropped, also while no item comes.
///
/// # Panics
///
/// If `convert` does; the item that it was given is lost.
///
/// # Cancel safety
///
/// Dropped before it is done, it has lost nothing: each item is in `from` or in `to`, and calling it
/// again goes on from there.
pub async fn forward<T, U>(
    from: &mut Receiver<T>,
    to: &Sender<U>,
    mut convert: impl FnMut(T) -> U,
) -> Result<(), TargetClosed> {
    // Asked before each reserve: once the last item is moved there is nothing to wait for. Senders are
    // counted, for `is_closed` says yes while one of them may still send to a place it had reserved.
    while !(from.sender_strong_count() == 0 && from.is_empty()) {
        let place = to.reserve().await.map_err(|_| TargetClosed)?;
        let item = select! {
            biased; // with both ready, the item has to stay where it is
            () = to.closed() => return Err(TargetClosed),
            item = from.recv() => item,
        };
        // No await from here on: nothing can come between taking the item and placing it.
        match item {
            Some(item) => place.send(convert(item)),
            None => break,
        }
    }
    Ok(())
}
