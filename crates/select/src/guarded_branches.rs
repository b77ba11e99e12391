//! # Guarded branches: preconditions and else in select!
//!
//! Items arrive in bursts and leave slowly, and which of those that wait leaves next is to be chosen:
//! the most urgent, or the latest of its kind. The task between the two channels must read only while
//! it has room and write only while it has something, and must end when both are over. Each of these
//! "only while" is a precondition of a `select!` branch, and the end is its `else`.
//!
//! ## Use it when
//! - items wait between two channels, and the order in which they leave is yours: priorities, the
//!   newest first, one item per key;
//! - your own `select!` loop has a branch that makes sense only at times.
//!
//! ## Use something else when
//! - items leave in the order in which they came: a larger channel, or `forward`;
//! - items are worked on where they leave: `work_queue`;
//! - branches are always of use, and one of them goes first: `shutdown_first`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features macros,sync
//! ```
//!
//! ## Watch out
//! - A false precondition skips the poll, not the expression: `x = start(job), if ready` calls `start`
//!   on every turn. An `async fn` does nothing before its first poll; other functions may.
//! - Preconditions are looked at once a turn, before the first poll. What changes while the
//!   branches wait counts from the next turn on.
//! - `Ok(x) = call()` throws away what does not match, the error included, and waits for the others.
//!   Refute what only says "no more", as `recv`'s `None` does; match the rest in the handler.
//! - With every branch disabled and no `else`, `select!` panics, as shown in `select_without_else`.
//! - `else` comes once *every* branch is disabled. One that is always enabled and never ends, such as
//!   `to.closed()`, keeps it from ever coming: put that into a `select!` around the loop.
//! - The buffer delays backpressure: the sender feels a slow target only once the buffer is full.

use std::collections::{BinaryHeap, VecDeque};
use std::num::NonZeroUsize;
use std::pin::pin;

use thiserror::Error;
use tokio::select;
use tokio::sync::mpsc::{Receiver, Sender};

/// The items that wait between the channels. It decides which of them leaves next.
///
/// A `VecDeque` lets the oldest leave first, a `BinaryHeap` the greatest; equals do not leave the
/// heap in the order in which they came. Implement it for what you need.
pub trait Waiting<T> {
    /// How many wait.
    fn count(&self) -> usize;

    /// Takes in an item. It may replace one that waits: the latest of each key, for instance. Once the
    /// limit is reached no item is put, though it would replace one.
    fn put(&mut self, item: T);

    /// Gives out the item that leaves next, or `None` if [`count`](Self::count) is 0.
    fn take(&mut self) -> Option<T>;
}

/// Nobody receives from the target any more. What was not moved, if anything, waits, or is in the
/// source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the target channel is closed; what was not moved still waits, or is in the source")]
pub struct TargetClosed;

/// Moves items from `from` to `to` by way of `waiting`, until `from` has ended: every sender gone and
/// everything moved. While `to` is full it reads on, until `limit` items wait; then `from` fills up.
///
/// An item leaves when `to` has a place for it, and every item that has come by then takes part in
/// the choice. Those in `to` itself are past it: give `to` a small capacity.
///
/// # Errors
///
/// [`TargetClosed`] as soon as the receiver of `to` is closed or dropped, also while no item comes.
///
/// # Panics
///
/// If a method of `waiting` does; the item that it was given is lost.
///
/// # Cancel safety
///
/// Dropped before it is done, it has lost nothing: each item is in `from`, `waiting` or `to`, and
/// calling it again with the same `waiting` goes on from there.
pub async fn pump<T>(
    from: &mut Receiver<T>,
    to: &Sender<T>,
    waiting: &mut impl Waiting<T>,
    limit: NonZeroUsize,
) -> Result<(), TargetClosed> {
    let everything = async {
        // Kept across turns, with its place in the line: each item that comes would drop it.
        let mut place = pin!(to.reserve());
        loop {
            select! {
                biased; // after `recv`, it would have no turn while the source always has something
                reserved = &mut place, if waiting.count() > 0 => {
                    place.set(to.reserve());
                    let reserved = reserved.map_err(|_| TargetClosed)?;
                    // What has come takes part in the choice, until `limit` items do. What comes
                    // meanwhile does not: it might never end.
                    for _ in 0..from.len() {
                        if waiting.count() >= limit.get() {
                            break;
                        }
                        if let Ok(item) = from.try_recv() {
                            waiting.put(item);
                        }
                    }
                    if let Some(item) = waiting.take() {
                        reserved.send(item);
                    }
                }
                Some(item) = from.recv(), if waiting.count() < limit.get() => waiting.put(item),
                else => return Ok(()), // `from` has ended and nothing waits
            }
        }
    };
    select! {
        biased; // done is done, though nobody receives any more
        result = everything => result,
        () = to.closed() => Err(TargetClosed),
    }
}

impl<T> Waiting<T> for VecDeque<T> {
    fn count(&self) -> usize {
        self.len()
    }

    fn put(&mut self, item: T) {
        self.push_back(item);
    }

    fn take(&mut self) -> Option<T> {
        self.pop_front()
    }
}

impl<T: Ord> Waiting<T> for BinaryHeap<T> {
    fn count(&self) -> usize {
        self.len()
    }

    fn put(&mut self, item: T) {
        self.push(item);
    }

    fn take(&mut self) -> Option<T> {
        self.pop()
    }
}
