//! # Micro-batch: chunks by size, weight or time
//!
//! Items trickle in or pour in, and what takes them is cheaper by the hundred: an insert, a request,
//! a write. A batch should be full where there is enough, must not exceed what the receiver accepts,
//! and nothing should wait for company longer than a given time.
//!
//! ## Use it when
//! - the receiver has a limit of items, or of bytes, or of both;
//! - an item may wait for a while, and no longer.
//!
//! ## Use something else when
//! - no item should wait at all: `ready_chunks` of futures gives what is there;
//! - only the last of a burst counts: `debounce`;
//! - so many calls per second are allowed, each with one item: `limit_rate`.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add tokio --features time
//! ```
//!
//! ## Watch out
//! - Dropping the stream drops the batch that it collects. To stop, end its input: make that
//!   `pin!(items.take_until(stop))`, and the last batch comes out.
//! - `select! { item = items.recv() => …, () = sleep(wait) => flush }` begins the wait anew with each
//!   item: a steady trickle is flushed only by size, as shown in `trickle_never_flushes`.
//! - `chunks_timeout` of tokio-stream makes room for the largest chunk each time, however few items
//!   come, looks at no weight, and leaves errors among the items. Collect such a chunk into a
//!   `Result` and the good items around an error are gone.
//! - `futures_util::stream::iter` and the like are never pending, and use none of tokio's budget: only
//!   `items` and `weight` end their batches. Wrap them in `cooperative` of `from_iter_and_interval`.
//! - Nothing is collected while the loop's body awaits: items wait in their channel, and that must
//!   hold what comes meanwhile. What is there then is taken first, so that batches get full.

use std::fmt;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::stream::{Fuse, IntoStream};
use futures_util::{Stream, StreamExt, TryStream, TryStreamExt};
use tokio::time::{Instant, Sleep, sleep_until};

/// What ends a batch: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most items in it.
    pub items: NonZeroUsize,
    /// The most that its items weigh together, in the unit of the function that weighs them. An item
    /// that alone weighs more is a batch of its own.
    pub weight: NonZeroUsize,
    /// How long its first item waits for others, from the moment it was taken from the stream. While
    /// the stream is ready it is not looked at: a channel that is never empty is interrupted every 128
    /// items, by tokio's budget.
    pub wait: Duration,
}

/// Collects the items of `stream` into batches within `limits`; `weigh` tells the weight of each.
///
/// A batch is never empty. The last may be smaller, and comes with the end of the stream. An error
/// ends the batch before it: that comes first, then the error, and then it goes on.
///
/// Streams that cannot fail pass as `stream.map(Ok::<_, Infallible>)`, and their loop can be
/// `while let Some(Ok(batch)) = batches.next().await`. Pin streams that are not `Unpin`.
///
/// `next` may be dropped at any time, as `select!` does, and loses nothing.
///
/// # Panics
///
/// Polling it panics outside of a Tokio runtime with timers, and if `stream` or `weigh`
/// does.
pub fn micro_batch<S, W>(stream: S, limits: Limits, weigh: W) -> MicroBatch<S, W>
where
    S: TryStream + Unpin,
    W: FnMut(&S::Ok) -> usize,
{
    MicroBatch {
        stream: stream.into_stream().fuse(),
        limits,
        weigh,
        items: Vec::new(),
        weight: 0,
        due: None,
        timer: None,
        error: None,
    }
}

/// The stream of batches that [`micro_batch`] returns. Polled after its end, it says `None` again.
#[must_use = "streams do nothing unless polled"]
pub struct MicroBatch<S: TryStream, W> {
    stream: Fuse<IntoStream<S>>,
    limits: Limits,
    weigh: W,
    /// The batch, as far as it has come.
    items: Vec<S::Ok>,
    weight: usize,
    /// When the batch must be given. `None`: it is empty, or has all the time there is.
    due: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Comes after the batch that it ended.
    error: Option<S::Error>,
}

impl<S, W> MicroBatch<S, W>
where
    S: TryStream + Unpin,
    W: FnMut(&S::Ok) -> usize,
{
    /// Adds the item to the batch. If it is too heavy for that, it begins the next one, and here is
    /// the one before it.
    fn add(&mut self, item: S::Ok) -> Option<Vec<S::Ok>> {
        let weight = (self.weigh)(&item);
        let is_too_heavy = self.weight.saturating_add(weight) > self.limits.weight.get();
        let before = (is_too_heavy && !self.items.is_empty()).then(|| self.take());
        if self.items.is_empty() {
            self.due = Instant::now().checked_add(self.limits.wait);
        }
        self.items.push(item);
        self.weight = self.weight.saturating_add(weight);
        before
    }

    fn is_full(&self) -> bool {
        self.items.len() >= self.limits.items.get() || self.weight >= self.limits.weight.get()
    }

    fn take(&mut self) -> Vec<S::Ok> {
        self.weight = 0;
        self.due = None;
        std::mem::take(&mut self.items)
    }

    /// Ready when the batch has waited long enough.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due else {
            return Poll::Pending;
        };
        // Only here, so that batches which fill at once never touch the timer.
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}

impl<S, W> Stream for MicroBatch<S, W>
where
    S: TryStream + Unpin,
    W: FnMut(&S::Ok) -> usize,
{
    type Item = Result<Vec<S::Ok>, S::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.is_full() {
                return Poll::Ready(Some(Ok(this.take())));
            }
            if let Some(error) = this.error.take() {
                return Poll::Ready(Some(Err(error)));
            }
            // Before the time is looked at: with a slow reader every batch is overdue, and should be
            // as full as it can be.
            match this.stream.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(item))) => {
                    if let Some(batch) = this.add(item) {
                        return Poll::Ready(Some(Ok(batch)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    this.error = Some(error);
                    if !this.items.is_empty() {
                        return Poll::Ready(Some(Ok(this.take())));
                    }
                }
                Poll::Ready(None) if this.items.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) => return Poll::Ready(Some(Ok(this.take()))),
                Poll::Pending => {
                    // By the clock first: where a tokio channel is pending because the task's budget is
                    // used up, the timer is too, however late it is.
                    if this.due.is_none_or(|due| Instant::now() < due) {
                        ready!(this.poll_due(cx));
                    }
                    return Poll::Ready(Some(Ok(this.take())));
                }
            }
        }
    }
}

impl<S: TryStream + Unpin, W> Unpin for MicroBatch<S, W> {} // the timer is pinned on the heap

/// By hand, so that the stream, its items and the closure need not implement `Debug`.
impl<S: TryStream, W> fmt::Debug for MicroBatch<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MicroBatch")
            .field("limits", &self.limits)
            .field("items", &self.items.len())
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
}
