//! # A closed channel that spins: if let Some in the branch's body
//!
//! A loop reads a connection and sends a heartbeat. What comes is an `Option`, and the body of the
//! branch looks into it: `if let Some(message)`. At the end of the connection it is `None`, at
//! once, in every turn of the loop from then on.
//!
//! ## You have it when
//! - one core is at 100 % since somebody disconnected, one more with each who does;
//! - a profile shows `recv`, `next` or `next_line`, and nothing that calls it does any work;
//! - a branch of a `select!` takes an `Option` or a length without leaving the loop at `None` or 0.
//!
//! ## What it does to you
//! - While another task has 100 turns, the loop has 12,800: the budget of a turn, used up each
//!   time.
//! - On an end that is no channel's (a file, a `Vec`, a stream of your own) there is no budget
//!   either: 1,000,000 turns, and no other task on the thread has had one.
//! - While the connection is open it is right, so its test passes.
//!
//! ## Use instead
//! - `event_loop`, which ends with the last sender, and says so;
//! - in your own loop `let Some(message) = message else { break }`. The pattern `Some(message) = …`
//!   in the branch stops the spinning, and lives on with its heartbeats.

use futures_util::{Stream, StreamExt};
use tokio::select;
use tokio::time::Interval;

/// Handles what comes, and sends a heartbeat at each tick.
pub async fn serve<M>(
    mut connection: impl Stream<Item = M> + Unpin,
    ticks: &mut Interval,
    mut handle: impl FnMut(M),
    mut heartbeat: impl FnMut(),
) {
    loop {
        select! {
            message = connection.next() => {
                if let Some(message) = message {
                    handle(message);
                } // else: and again
            }
            _ = ticks.tick() => heartbeat(),
        }
    }
}
