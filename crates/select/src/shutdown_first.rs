//! # Shutdown first: select! with biased, and a turn for everybody
//!
//! A loop receives from an urgent source and from an ordinary one until it is told to stop. A plain
//! `select!` picks at random among what is ready, the stop among it, so the loop takes up some more
//! work after it. With `biased;` the order is yours: the stop comes first, then what is urgent. But
//! an urgent source that always has something would then shut out the other. Here it has a limit.
//!
//! ## Use it when
//! - after the stop nothing more may be taken up: what was not taken goes to somebody else;
//! - one source goes before the other: cancellations, control messages, retries.
//!
//! ## Use something else when
//! - something must happen at intervals while an item is worked on: `event_loop`;
//! - branches of the `select!` come and go: `guarded_branches`;
//! - the order does not matter and there is no stop: a plain `select!` is fair, without a count.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add tokio --features macros,rt
//! cargo add tokio-util
//! ```
//!
//! ## Watch out
//! - In a plain `select!` a stop that is ready loses to an item that is ready half of the time.
//! - With `biased;` alone, a later branch never has its turn while an earlier one is always ready, as
//!   shown in `biased_starvation`.
//! - The stop is looked at between items. While you work on one, nobody does: run that work in
//!   [`CancellationToken::run_until_cancelled`] if it may be dropped half way.
//! - A stop by `Notify::notify_waiters` is not heard by one who is at work just then: `lost_wakeup`.
//! - `else` is for the case that no branch is left. Beside one that waits for a stop it never runs.
//! - A source that has ended is not told of while the other goes on.

use std::num::NonZeroUsize;

use futures_util::stream::Fuse;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::select;
use tokio::task::coop::consume_budget;
use tokio_util::sync::CancellationToken;

/// Two sources and a stop, in this order: the stop, then `urgent`, then `normal`. An item of
/// `normal` that is ready waits for no more than `in_a_row` items of `urgent`.
///
/// Any stream will do. A tokio receiver becomes one by
/// `stream::poll_fn(move |cx| receiver.poll_recv(cx))`, and `&mut stream` leaves it with you.
#[derive(Debug)]
pub struct ShutdownFirst<U, N> {
    stop: CancellationToken,
    urgent: Fuse<U>,
    normal: Fuse<N>,
    in_a_row: NonZeroUsize,
    /// Items of `urgent` since the last one of `normal`.
    passed: usize,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an item may be in it"]
pub enum Next<U, N> {
    /// The token is cancelled. From then on nothing else comes.
    Stopped,
    /// An item of the urgent source.
    Urgent(U),
    /// An item of the normal source.
    Normal(N),
    /// Both sources have ended.
    Ended,
}

impl<U: Stream + Unpin, N: Stream + Unpin> ShutdownFirst<U, N> {
    /// Puts the sources in order. Nothing is polled before [`next`](Self::next) is.
    #[must_use]
    pub fn new(stop: CancellationToken, urgent: U, normal: N, in_a_row: NonZeroUsize) -> Self {
        Self {
            stop,
            urgent: urgent.fuse(),
            normal: normal.fuse(),
            in_a_row,
            passed: 0,
        }
    }

    /// Waits for the next item, or for the stop. Once the token is cancelled it takes no item, ready
    /// or not.
    ///
    /// Every 128 items at the latest it lets other tasks run, the one that stops it among them, also
    /// when the streams are not tokio's and are always ready.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has taken no item: the next call gets it.
    pub async fn next(&mut self) -> Next<U::Item, N::Item> {
        let item = async {
            if self.passed >= self.in_a_row.get() {
                select! {
                    biased;
                    Some(item) = self.normal.next() => Next::Normal(item),
                    Some(item) = self.urgent.next() => Next::Urgent(item),
                    else => Next::Ended,
                }
            } else {
                select! {
                    biased;
                    Some(item) = self.urgent.next() => Next::Urgent(item),
                    Some(item) = self.normal.next() => Next::Normal(item),
                    else => Next::Ended,
                }
            }
        };
        let next = select! {
            biased;
            () = self.stop.cancelled() => Next::Stopped,
            item = item => item, // a `select!` of its own: beside the stop `else` would wait for it
        };
        self.passed = match next {
            Next::Urgent(_) => self.passed.saturating_add(1),
            _ => 0,
        };
        // `select!` waits for budget, so that no receiver seems empty for the lack of it, but spends
        // none. Not awaited: an item that was taken must not be lost.
        consume_budget().now_or_never();
        next
    }

    /// Gives the sources back, with the items that were not taken.
    #[must_use = "there may be items in them"]
    pub fn into_sources(self) -> (U, N) {
        (self.urgent.into_inner(), self.normal.into_inner())
    }
}
