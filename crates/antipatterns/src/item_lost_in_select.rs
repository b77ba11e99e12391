//! # Item lost in select!: recv, then send, in one branch
//!
//! A loop moves items from one channel to the next and reports now and then. The move is a function
//! of two lines, put into a branch of `select!`. Now and then an item that was sent never arrives,
//! nothing was logged, and both channels are intact.
//!
//! ## You have it when
//! - the counts at the two ends drift apart, and faster when the receiving side is slow;
//! - a branch of `select!`, or what a `timeout` is put around, awaits twice and holds something in
//!   between: `to.send(from.recv().await)` in any spelling.
//!
//! ## What it does to you
//! - With a full target each report costs an item: 1,000 reports, 1,000 items gone. `select!` drops
//!   the branches that lost, and the item was in none of the channels but in one of those.
//! - While there is room nothing is lost, and so its test passes.
//! - A `timeout` around the move does the same, without any `select!`.
//!
//! ## Use instead
//! - `forward`, which reserves the place before it takes the item: put it into the branch as it is;
//! - `resume`, for a step of several awaits that must go on where it was: it is kept, not made
//!   anew.

use tokio::select;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::Interval;

/// Moves every item from `from` to `to`, and calls `report` at each tick meanwhile.
pub async fn move_and_report<T>(
    from: &mut Receiver<T>,
    to: &Sender<T>,
    ticks: &mut Interval,
    mut report: impl FnMut(),
) {
    loop {
        select! {
            moved = move_one(from, to) => {
                if !moved {
                    return;
                }
            }
            _ = ticks.tick() => report(), // `move_one` is dropped where it waits
        }
    }
}

/// Moves one item. False at the end.
pub async fn move_one<T>(from: &mut Receiver<T>, to: &Sender<T>) -> bool {
    let Some(item) = from.recv().await else {
        return false;
    };
    to.send(item).await.is_ok() // while it waits for room, the item is here and nowhere else
}
