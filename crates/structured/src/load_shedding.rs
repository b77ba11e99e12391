//! # Load shedding: a bounded queue that says what it drops
//!
//! More comes in than can be done, and the queue is full. Something has to give: the producer waits,
//! is refused, or an item is dropped, the oldest or the newest. Which one is right depends on what
//! the items are; that it is decided, counted, and told to somebody does not. Tokio's mpsc can wait
//! and refuse. This queue can drop as well, and what it drops goes to a callback.
//!
//! ## Use it when
//! - it is better to lose some items than to be late with all: readings, positions, log lines;
//! - overload must show: a count for each way to lose an item, and each lost item in somebody's hands.
//!
//! ## Use something else when
//! - every item has to be done, and producers can wait as long as it takes: `work_queue`;
//! - waiting and refusing are enough: tokio's mpsc, with `channel_errors` for the item that was not sent;
//! - it is calls that are too many, not items in a queue: `limit_concurrency`;
//! - only the latest state matters: a watch channel, as in `config_watch`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt,sync,time
//! ```
//!
//! ## Watch out
//! - `sender.try_send(item).ok()` sheds load as well, and nobody will ever know how much: shown in
//!   `try_send_dropped`.
//! - Producers that wait are a queue too. A thousand tasks that wait to push one item each hold a
//!   thousand items, whatever the capacity: where callers are many, refuse.
//! - A long queue makes all items late: the last of 100 that take 100 ms each is 10 s old when its
//!   turn comes. The capacity is the longest delay that is of use, divided by the time for one item.
//! - A broadcast channel drops the oldest too, and tells how many there were, not which.
//! - The callback runs in the task that pushes. One that pushes what was shed into the same queue
//!   calls itself, for as long as that is full.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::task::coop;
use tokio::time::timeout;

/// What a push to a full queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits for room, so long at most, first come, first served; then the producer gets its item
    /// back. For producers that can be slowed down: a file that is read, a peer that is not read from.
    Wait(Duration),
    /// The producer gets its item back at once. For those who can tell somebody: a server that answers
    /// "busy".
    Reject,
    /// The item that has waited longest makes room. For items whose worth fades: readings, positions.
    DropOldest,
    /// The item that was to be pushed is dropped. For items of which the first say most, and the
    /// producer has nobody to tell: log lines, error reports.
    DropNewest,
}

/// Why the callback gets an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shed {
    /// It had waited longest, and made room for another: [`WhenFull::DropOldest`].
    Oldest,
    /// It found no room: [`WhenFull::DropNewest`].
    Newest,
    /// It was in the queue when the [`Consumer`] was dropped.
    Unread,
}

/// Why a push did not queue the item. Here it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotQueued<T> {
    /// There is no room: [`WhenFull::Reject`], or a [`try_push`](Producer::try_push) that would wait.
    #[error("the queue is full")]
    Rejected(T),
    /// There was no room in time: [`WhenFull::Wait`].
    #[error("the queue stayed full for too long")]
    TimedOut(T),
    /// The queue is closed, or its [`Consumer`] dropped.
    #[error("the queue takes no more items")]
    Closed(T),
}

/// What has become of the items so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Put into the queue. Without `dropped_oldest`, `unread` and `waiting`, these were received.
    pub queued: u64,
    /// In the queue at the moment.
    pub waiting: u64,
    /// Given back to their producers, for want of room.
    pub rejected: u64,
    /// Given back to their producers, for want of room in time.
    pub timed_out: u64,
    /// Shed as [`Shed::Oldest`].
    pub dropped_oldest: u64,
    /// Shed as [`Shed::Newest`].
    pub dropped_newest: u64,
    /// Shed as [`Shed::Unread`].
    pub unread: u64,
}

/// The end that takes items. Clone it for each producer: with the last one the queue is closed.
#[derive(Debug)]
pub struct Producer<T>(Arc<Open<T>>);

/// The end that gives items. Dropping it closes the queue; what is in there goes to the callback.
#[derive(Debug)]
pub struct Consumer<T>(Arc<Shared<T>>);

/// A queue with room for `capacity` items. `on_shed` gets each item that is dropped, in the task that
/// caused it. It should be short, and must not push into this queue.
#[must_use]
pub fn shedding_queue<T>(
    capacity: NonZeroUsize,
    when_full: WhenFull,
    on_shed: impl Fn(T, Shed) + Send + Sync + 'static,
) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.get().min(Semaphore::MAX_PERMITS); // more would panic
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            items: VecDeque::new(), // grows as needed: the capacity may be enormous
            counts: Counts::default(),
            closed: false,
        }),
        capacity,
        when_full,
        places: Semaphore::new(capacity),
        pushed_or_closed: Notify::new(),
        on_shed: Box::new(on_shed),
    });
    (
        Producer(Arc::new(Open(Arc::clone(&shared)))),
        Consumer(shared),
    )
}

impl<T> Producer<T> {
    /// Adds an item; when the queue is full, does what its [`WhenFull`] says. `Ok` also if an item was
    /// dropped for it, or was this one.
    ///
    /// # Errors
    ///
    /// [`NotQueued`] with the item.
    ///
    /// # Panics
    ///
    /// If the callback does; or if it has to wait outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has queued nothing: the item is dropped with it, uncounted.
    pub async fn push(&self, item: T) -> Result<(), NotQueued<T>> {
        let shared = &self.0.0;
        let WhenFull::Wait(limit) = shared.when_full else {
            // It never waits, so without this a busy producer would keep all others from the thread.
            coop::consume_budget().await;
            return self.try_push(item);
        };
        match timeout(limit, shared.places.acquire()).await {
            Ok(Ok(place)) => {
                let state = shared.state();
                if state.closed {
                    return Err(NotQueued::Closed(item)); // while it waited for the lock
                }
                place.forget(); // `next` gives it back
                shared.put(state, item);
                Ok(())
            }
            Ok(Err(_)) => Err(NotQueued::Closed(item)),
            Err(_) => {
                shared.state().counts.timed_out += 1;
                Err(NotQueued::TimedOut(item))
            }
        }
    }

    /// Like [`push`](Self::push), without a wait: [`WhenFull::Wait`] rejects the item.
    ///
    /// # Errors
    ///
    /// [`NotQueued`] with the item.
    ///
    /// # Panics
    ///
    /// If the callback does.
    pub fn try_push(&self, item: T) -> Result<(), NotQueued<T>> {
        let shared = &self.0.0;
        let mut state = shared.state();
        if state.closed {
            return Err(NotQueued::Closed(item));
        }
        let has_room = match shared.when_full {
            // A place may be promised to one who waits for it.
            WhenFull::Wait(_) => {
                let place = shared.places.try_acquire();
                place.map(SemaphorePermit::forget).is_ok()
            }
            _ => state.items.len() < shared.capacity,
        };
        let mut oldest = None;
        if !has_room {
            match shared.when_full {
                WhenFull::Wait(_) | WhenFull::Reject => {
                    state.counts.rejected += 1;
                    return Err(NotQueued::Rejected(item));
                }
                WhenFull::DropNewest => {
                    state.counts.dropped_newest += 1;
                    drop(state); // never call foreign code under a lock
                    (shared.on_shed)(item, Shed::Newest);
                    return Ok(());
                }
                WhenFull::DropOldest => {
                    state.counts.dropped_oldest += 1;
                    oldest = state.items.pop_front();
                }
            }
        }
        shared.put(state, item);
        if let Some(oldest) = oldest {
            (shared.on_shed)(oldest, Shed::Oldest);
        }
        Ok(())
    }

    /// What has become of the items so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.0.counts()
    }
}

impl<T> Consumer<T> {
    /// Waits for the next item. `None` once the queue is closed, or its last producer dropped, and
    /// every item was received.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has taken no item: the next call gets it.
    pub async fn next(&mut self) -> Option<T> {
        coop::consume_budget().await;
        loop {
            {
                let mut state = self.0.state();
                if let Some(item) = state.items.pop_front() {
                    if matches!(self.0.when_full, WhenFull::Wait(_)) {
                        self.0.places.add_permits(1);
                    }
                    return Some(item);
                }
                if state.closed {
                    return None;
                }
            }
            // What has happened since the look above is remembered, since this is the only consumer.
            self.0.pushed_or_closed.notified().await;
        }
    }

    /// Refuses all further items, those whose `push` waits for room among them. Items that are in the
    /// queue can still be received.
    pub fn close(&self) {
        self.0.close();
    }

    /// What has become of the items so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.0.close();
        let mut state = self.0.state();
        let unread = mem::take(&mut state.items);
        state.counts.unread += unread.len() as u64;
        drop(state);
        for item in unread {
            (self.0.on_shed)(item, Shed::Unread);
        }
    }
}

impl<T> Clone for Producer<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Shared by the producers: closes the queue with the last of them.
#[derive(Debug)]
struct Open<T>(Arc<Shared<T>>);

impl<T> Drop for Open<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
    capacity: usize,
    when_full: WhenFull,
    /// Used by [`WhenFull::Wait`] alone: a fair queue of those who wait.
    places: Semaphore,
    pushed_or_closed: Notify,
    on_shed: Box<dyn Fn(T, Shed) + Send + Sync>,
}

struct State<T> {
    items: VecDeque<T>,
    counts: Counts,
    closed: bool,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, mut state: MutexGuard<'_, State<T>>, item: T) {
        state.items.push_back(item);
        state.counts.queued += 1;
        drop(state);
        self.pushed_or_closed.notify_one();
    }

    fn counts(&self) -> Counts {
        let state = self.state();
        Counts {
            waiting: state.items.len() as u64,
            ..state.counts
        }
    }

    fn close(&self) {
        self.state().closed = true;
        self.places.close();
        self.pushed_or_closed.notify_one();
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        f.debug_struct("SheddingQueue")
            .field("when_full", &self.when_full)
            .field("counts", &counts)
            .finish_non_exhaustive()
    }
}
