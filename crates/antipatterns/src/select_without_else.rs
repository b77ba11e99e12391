//! # select! without else: a panic at the end
//!
//! A task with a small buffer between two channels: it reads while there is room, and writes while
//! there is something. It works until it is done. With the last sender gone and the buffer empty no
//! branch is left, and `select!` has nothing to wait for.
//!
//! ## You have it when
//! - a program that did all its work ends in a panic, in a test or with the last connection;
//! - the log says `all branches are disabled and there is no else branch`;
//! - every branch of a `select!` has a pattern that can fail (`Some(…)`, `Ok(…)`) or a
//!   precondition.
//!
//! ## What it does to you
//! - Each regular end is a panic: 100 of 100 items are moved, and the task's result is a
//!   `JoinError`.
//! - When the target is gone it is one too, instead of an error, and the 10 items in the buffer go
//!   with the task. `Ok(place) = to.reserve()` had thrown the error away.
//! - While there is traffic nothing is seen of it, so its test passes.
//!
//! ## Use instead
//! - `guarded_branches`, whose `pump` ends at its `else`, tells of a closed target, and leaves the
//!   buffer with its caller;
//! - `event_loop` for a loop whose channels may end one by one.

use std::collections::VecDeque;

use tokio::select;
use tokio::sync::mpsc::{Receiver, Sender};

/// Moves items from `from` to `to`, with up to `limit` of them in between.
pub async fn buffer<T>(mut from: Receiver<T>, to: Sender<T>, limit: usize) {
    let mut waiting = VecDeque::new();
    loop {
        select! { // with neither branch left: a panic
            Some(item) = from.recv(), if waiting.len() < limit => waiting.push_back(item),
            Ok(place) = to.reserve(), if !waiting.is_empty() => {
                if let Some(item) = waiting.pop_front() {
                    place.send(item);
                }
            }
        }
    }
}
