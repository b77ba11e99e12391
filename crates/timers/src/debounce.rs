//! # Debounce: act once, after the burst
//!
//! An editor saves a file in five writes, a user types a word, a service registers its forty
//! instances: many events, and one of them, or all together, is worth acting upon. Debouncing waits
//! until no event has come for a while. Written in place it has two classic faults: a stream that
//! never pauses is never acted upon, and the last burst is lost when the events end.
//!
//! ## Use it when
//! - acting is dear and the last event, or the sum of them, is enough: reload, rebuild, search.
//!
//! ## Use something else when
//! - the first event should act and the others wait: `limit_rate`, with a burst of one;
//! - only the latest value counts, whenever its reader has time: `config_watch`, a `watch` channel;
//! - every event counts, in groups of a size: `ready_chunks` or `chunks_timeout` on a stream.
//!
//! ## Add to your project
//! ```console
//! cargo add tokio --features macros,sync,time
//! ```
//!
//! ## Watch out
//! - A quiet time without a longest delay is a promise to never act while events keep coming: one
//!   each 90 ms, and a quiet time of 100 ms is never over.
//! - While its owner acts, nobody reads: events wait in the channel, and senders with them once it is
//!   full. Their quiet time begins when they are read.
//! - `sleep(quiet)` around a copied "last event" in a task per event acts once for each event, late.
//!   It is a delay, not a debounce.

use std::fmt;
use std::future::pending;
use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::select;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// How long a burst is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// A burst ends when no event has come for this long. Zero makes each event a burst of its own.
    pub quiet: Duration,
    /// A burst ends this long after its first event, also when there was no quiet. `Duration::MAX`
    /// sets no such bound.
    pub longest: Duration,
}

/// Events that came in one burst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burst<T> {
    /// The first event, with all later ones merged into it.
    pub value: T,
    /// How many events it was.
    pub events: NonZeroUsize,
    /// When the first of them was read.
    pub first: Instant,
    /// When the last of them was read.
    pub last: Instant,
}

/// Takes events from a channel and gives one value for each burst of them.
pub struct Debounce<T, M> {
    events: mpsc::Receiver<T>,
    wait: Wait,
    merge: M,
    /// Kept here, not in the future of `next`, so that dropping that loses nothing.
    burst: Option<Burst<T>>,
}

impl<T> Debounce<T, fn(&mut T, T)> {
    /// Each burst's value is its last event.
    #[must_use]
    pub fn latest(events: mpsc::Receiver<T>, wait: Wait) -> Self {
        Self::merging(events, wait, |value, event| *value = event)
    }
}

impl<T, M: FnMut(&mut T, T)> Debounce<T, M> {
    /// Each burst's value is its first event, into which `merge` has put the others in their order.
    #[must_use]
    pub fn merging(events: mpsc::Receiver<T>, wait: Wait, merge: M) -> Self {
        Self {
            events,
            wait,
            merge,
            burst: None,
        }
    }

    /// Waits for the end of the next burst. The last one ends with the channel, without a wait.
    /// `None` once the channel has ended and every burst was given.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it loses nothing: what has been read is kept, and the next call
    /// goes on waiting for the end of the same burst.
    pub async fn next(&mut self) -> Option<Burst<T>> {
        loop {
            let Some(burst) = &mut self.burst else {
                self.burst = Some(Burst::begin(self.events.recv().await?));
                continue;
            };
            let event = select! {
                biased; // events that never pause must not hide that the time is over
                () = until(burst.end(self.wait)) => None,
                event = self.events.recv() => event,
            };
            let Some(event) = event else {
                return self.burst.take();
            };
            (self.merge)(&mut burst.value, event);
            burst.events = burst.events.saturating_add(1);
            burst.last = Instant::now();
        }
    }
}

impl<T> Burst<T> {
    fn begin(event: T) -> Self {
        let now = Instant::now();
        Self {
            value: event,
            events: NonZeroUsize::MIN,
            first: now,
            last: now,
        }
    }

    /// When it is over if no other event comes. `None`: never.
    fn end(&self, wait: Wait) -> Option<Instant> {
        let quiet = self.last.checked_add(wait.quiet);
        let longest = self.first.checked_add(wait.longest);
        let end = quiet.into_iter().chain(longest).min();
        // A timer rounds up to a millisecond, and panics if the clock cannot count that far.
        end.filter(|end| end.checked_add(Duration::from_millis(1)).is_some())
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) if end <= Instant::now() => {} // a timer would round up to its next millisecond
        Some(end) => sleep_until(end).await,
        None => pending().await,
    }
}

/// By hand, so that neither `merge` nor the events need implement `Debug`.
impl<T, M> fmt::Debug for Debounce<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debounce")
            .field("wait", &self.wait)
            .field("in_a_burst", &self.burst.is_some())
            .finish_non_exhaustive()
    }
}
