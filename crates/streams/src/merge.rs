//! # Merge: many streams as one, by key
//!
//! One loop reads from many connections, tenants or devices, which come and go. `StreamMap` joins
//! streams by key, and has three surprises: a second stream under a key replaces the first, which is
//! dropped with all it holds if nobody looks at the result; a stream that ends is gone without a word;
//! and each wake-up polls all of them. Here a key that is taken is an error, each end is told with its
//! key, streams that are ready take turns, and only those that were woken are polled.
//!
//! | To join | Order | It ends |
//! | --- | --- | --- |
//! | two: `a.chain(b)` | all of `a`, and only then is `b` polled | with `b` |
//! | two: `a.merge(b)` of tokio-stream, `select(a, b)` of futures | in turn while both are ready | when both have |
//! | many: `SelectAll` of futures | in turn | when all have, none told |
//! | a few by key: `StreamMap` of tokio-stream | from a random one on | when all have, none told |
//! | many by key: [`Merged`] | in turn | when all have, each told |
//!
//! ## Use it when
//! - streams of one type are added and removed while others are read, and you must know which ended.
//!
//! ## Use something else when
//! - they are two or three of different types in one loop: `select!`, as in `event_loop`;
//! - each item starts work that runs beside the others: `concurrent_map`;
//! - the producers can share one channel: clone its sender, `work_queue`.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! ```
//!
//! ## Watch out
//! - `StreamMap::insert` drops the stream it replaces unless you keep the result, `collect` does so
//!   always, and `extend` leaves two under one key, as shown in `one_key_twice`.
//! - `StreamMap` polls from a random one on until one is ready. After idle neighbours a stream's turn
//!   comes more often: beside 98 idle ones, of two that are always ready one may get 99 of 100 items.
//! - It polls every stream before it waits, and half of them to find the one that woke it. Up to eight
//!   streams it is still the faster of the two; with a thousand, an item costs a hundred times as much.
//! - In `a.chain(b)` nobody reads `b` meanwhile: a channel fills up and holds its producers, a
//!   broadcast lags, an interval's ticks are missed.
//! - `a.merge(b)` goes on when one has ended, and does not say so. [`Event::Ended`] does.
//! - An empty set is at its end: `next` gives `None` at once, and a `select!` loop around it spins. Guard
//!   the branch with `if !merged.is_empty()`. After an [`insert`](Merged::insert) it is good again.
//! - A stream that panics does so in the task that reads all of them, and is out without an end. Give it
//!   a task and a stream of its own: `from_channel`.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::stream::SelectAll;
use futures_util::{Stream, StreamExt};
use thiserror::Error;

/// Streams, each under a key of its own, as one stream of [`Event`]s.
///
/// It ends when all streams have, and goes on after another [`insert`](Self::insert). Streams that
/// cannot be moved go in as `Box::pin(stream)`.
#[must_use = "streams do nothing unless polled"]
pub struct Merged<K, S> {
    streams: SelectAll<Keyed<K, S>>,
    keys: HashSet<K>,
}

/// What happened to one of the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<T> {
    /// It gave this.
    Item(T),
    /// It has ended. Its key is free.
    Ended,
}

/// There is a stream under this key. Here are the key and the new stream.
#[derive(Error)]
#[error("there is a stream under this key: remove it first")]
pub struct Occupied<K, S> {
    /// The key, as it was passed.
    pub key: K,
    /// The stream, as it was passed: it was not polled.
    pub stream: S,
}

impl<K: Clone + Eq + Hash + Unpin, S: Stream + Unpin> Merged<K, S> {
    /// Without streams.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stream. It is first polled after all that are ready now.
    ///
    /// # Errors
    ///
    /// [`Occupied`], with both, if there is a stream under `key` whose end was not read yet.
    pub fn insert(&mut self, key: K, stream: S) -> Result<(), Occupied<K, S>> {
        if !self.keys.insert(key.clone()) {
            return Err(Occupied { key, stream });
        }
        let stream = Some(stream);
        self.streams.push(Keyed { key, stream });
        Ok(())
    }

    /// Takes a stream out. No end is told for it, and its key is free. Costs a look at every stream.
    pub fn remove(&mut self, key: &K) -> Option<S> {
        if !self.keys.remove(key) {
            return None;
        }
        let mut removed = None;
        // A `SelectAll` can take out none, but gives all of them.
        for keyed in mem::take(&mut self.streams) {
            if keyed.key == *key {
                removed = removed.or(keyed.stream);
            } else {
                self.streams.push(keyed);
            }
        }
        removed
    }

    /// The keys of the streams whose end was not read yet, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.keys.iter()
    }

    /// Whether there is a stream under `key` whose end was not read yet.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.keys.contains(key)
    }

    /// How many streams there are whose end was not read yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl<K: Clone + Eq + Hash + Unpin, S: Stream + Unpin> Stream for Merged<K, S> {
    type Item = (K, Event<S::Item>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.streams.poll_next_unpin(cx));
        match &next {
            Some((_, Event::Item(_))) => {}
            Some((key, Event::Ended)) => {
                self.keys.remove(key);
            }
            None => self.keys.clear(), // of streams that panicked
        }
        Poll::Ready(next)
    }
}

/// A stream that tells its end as its last item, each with the key.
struct Keyed<K, S> {
    key: K,
    /// `None` once the end was told.
    stream: Option<S>,
}

impl<K: Clone + Unpin, S: Stream + Unpin> Stream for Keyed<K, S> {
    type Item = (K, Event<S::Item>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(None);
        };
        let event = match ready!(stream.poll_next_unpin(cx)) {
            Some(item) => Event::Item(item),
            None => {
                self.stream = None; // what it holds is free now
                Event::Ended
            }
        };
        Poll::Ready(Some((self.key.clone(), event)))
    }
}

impl<K, S: Stream + Unpin> Default for Merged<K, S>
where
    K: Clone + Unpin,
{
    fn default() -> Self {
        Self {
            streams: SelectAll::new(),
            keys: HashSet::new(),
        }
    }
}

impl<K: fmt::Debug, S> fmt::Debug for Merged<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merged")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl<K: fmt::Debug, S> fmt::Debug for Occupied<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Occupied")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
