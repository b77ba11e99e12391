//! # From iterator and interval: iter, ticks, and one item per tick
//!
//! A list of pages is to be fetched one a second; a sensor read every minute; a long range walked
//! through beside other work. An iterator and an interval each make a stream in one line, and each has
//! its trap: a stream that is always ready keeps every other task from the thread, and ticks that
//! nobody was there for are gone, or come all at once. Pairing both with `zip` adds a third: it takes
//! items ahead of their ticks, and loses one at the end.
//!
//! ## Use it when
//! - ready items are to be handled at a steady pace, and what a stall skipped must be seen;
//! - a long or endless iterator feeds a chain of combinators.
//!
//! ## Use something else when
//! - a pause between items is enough: `throttle` of tokio-stream, which drifts by the work's time;
//! - the ticks run a job: `periodic`; a loop awaits them between other things: `missed_ticks`;
//! - many callers share the pace: `limit_rate`;
//! - making an item blocks or computes: `produce_blocking` of `from_channel`.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add pin-project-lite
//! cargo add thiserror
//! cargo add tokio --features rt,time
//! ```
//!
//! ## Watch out
//! - `futures_util::stream::iter` never waits, so tokio's budget for a task never ends its turn: no
//!   other task on the thread runs, no timer fires, not even that of a `timeout` around it, as shown
//!   in `stream_never_waits`. `tokio_stream::iter` gives way by itself. For `repeat`, `unfold` and the
//!   like there is [`cooperative`].
//! - [`cooperative`] belongs at the source: behind a `filter` that lets nothing through it is not asked.
//! - It gives way every 128 items. If each takes 1 ms to make, that is 128 ms.
//! - `items.zip(ticks)` asks both sides first: each item is taken a period before its tick, and when the
//!   ticks end, one is taken that never comes out, whichever side stands first: `zip_eats_an_item`.
//!   The one in hand is also lost when the `zip` is dropped.
//! - `enumerate` numbers what came. After a stall [`Tick::number`] has a gap, `enumerate` has not.
//! - Tokio's `interval` bursts after a stall unless told otherwise, and panics for a period of zero.
//! - A stream of ticks has no end: without `take` or `take_until` neither has a `collect` of it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use pin_project_lite::pin_project;
use thiserror::Error;
use tokio::task::coop;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// Ticks without end. Made by [`ticks`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Ticks {
    interval: Interval,
    first: Instant,
}

/// One tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// How many whole periods after the first tick it was due, so the first is 0. Numbers that are
    /// left out are ticks that were skipped: the consumer was late.
    pub number: u64,
    /// When it was due. How late it is: `due.elapsed()`.
    pub due: Instant,
}

/// A period of zero: such ticks would never pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the period is zero: give the time from one tick to the next, a millisecond or more")]
pub struct ZeroPeriod;

/// A stream of ticks, at `first` and each `period` after it. Tokio's clock counts milliseconds,
/// rounded up; a period of more than 30 years counts as 30 years.
///
/// `missed` says what follows a tick that was taken late: the missed ones at once (`Burst`), the next a
/// period after the late one (`Delay`), or at the next instant of the schedule (`Skip`). Up to 5 ms
/// count as punctual.
///
/// # Errors
///
/// [`ZeroPeriod`] if `period` is zero.
///
/// # Panics
///
/// If called outside of a Tokio runtime, or in one without timers.
pub fn ticks(
    first: Instant,
    period: Duration,
    missed: MissedTickBehavior,
) -> Result<Ticks, ZeroPeriod> {
    if period.is_zero() {
        return Err(ZeroPeriod);
    }
    let mut interval = interval_at(first, period);
    interval.set_missed_tick_behavior(missed);
    Ok(Ticks { interval, first })
}

impl Stream for Ticks {
    type Item = Tick;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Tick>> {
        let due = ready!(self.interval.poll_tick(cx));
        let passed = due.duration_since(self.first).as_nanos();
        let number = passed / self.interval.period().as_nanos();
        Poll::Ready(Some(Tick {
            number: u64::try_from(number).unwrap_or(u64::MAX),
            due,
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

pin_project! {
    /// One item for each tick. Made by [`paced`].
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct Paced<P: Stream, S> {
        #[pin]
        ticks: P,
        #[pin]
        items: S,
        // A tick that has come and waits for its item.
        tick: Option<P::Item>,
    }
}

/// Takes one item for each tick, after the tick: nothing is read ahead, so nothing is old when it
/// comes, or lost when this is dropped.
///
/// If `items` is not ready at the tick, the tick waits for it, and further ones are missed. The stream
/// ends with either side: with the ticks, without a look at the items; with the items at once if their
/// `size_hint` tells, as that of a `Vec` does, else at the tick that finds none.
pub fn paced<P: Stream, S: Stream>(ticks: P, items: S) -> Paced<P, S> {
    Paced {
        ticks,
        items,
        tick: None,
    }
}

impl<P: Stream, S> Paced<P, S> {
    /// Hands both sides back. Every item that was taken has come out.
    pub fn into_parts(self) -> (P, S) {
        (self.ticks, self.items)
    }
}

impl<P: Stream, S: Stream> Stream for Paced<P, S> {
    type Item = (P::Item, S::Item);

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if this.items.size_hint().1 == Some(0) {
            return Poll::Ready(None);
        }
        let tick = match this.tick.take() {
            Some(tick) => tick,
            None => match ready!(this.ticks.poll_next(cx)) {
                Some(tick) => tick,
                None => return Poll::Ready(None),
            },
        };
        match this.items.poll_next(cx) {
            Poll::Ready(item) => Poll::Ready(item.map(|item| (tick, item))),
            Poll::Pending => {
                *this.tick = Some(tick);
                Poll::Pending
            }
        }
    }
}

pin_project! {
    /// A stream that gives way to other tasks. Made by [`cooperative`].
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct Cooperative<S> {
        #[pin]
        stream: S,
    }
}

/// Lets each item of `stream` count against tokio's budget for the task, as messages and timers do.
/// Once it is used up, the stream is pending until the other tasks had their turn.
///
/// `tokio::task::coop::cooperative` does the same for a future. Outside of a Tokio runtime, and within
/// `unconstrained`, there is no budget, and this does nothing.
pub fn cooperative<S: Stream>(stream: S) -> Cooperative<S> {
    Cooperative { stream }
}

impl<S: Stream> Stream for Cooperative<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let unit = ready!(coop::poll_proceed(cx));
        let item = ready!(self.project().stream.poll_next(cx)); // pending gives the unit back
        unit.made_progress();
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}
