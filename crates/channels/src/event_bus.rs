//! # Event bus: broadcast
//!
//! Several tasks must see the same changes as they happen: who is online, what is in stock. One of
//! them falls behind, another starts late. Neither may slow the rest down, and neither may go on
//! with a hole in what it knows: each is given the state as it is now, told how many events it
//! missed, and then gets exactly the events after that state.
//!
//! ## Use it when
//! - every subscriber must see every change, or else the state that the missed ones led to;
//! - publishers must never wait for a subscriber.
//!
//! ## Use something else when
//! - each event must be handled, by one task: `work_queue`;
//! - only the latest value matters, not what led to it: `config_watch`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features sync
//! ```
//!
//! ## Watch out
//! - With a bare receiver, `while let Ok(event) = events.recv().await` ends at the first lag as if
//!   the channel had closed, as shown in `lagged_as_closed`; passing over the error leaves a hole.
//! - A snapshot read before `subscribe` misses an event that is published in between; one read
//!   after it counts that event twice. Here both happen under the lock that publishers take.
//! - The events are kept until the slowest subscriber has read them: up to the capacity, rounded
//!   up to a power of two. Room for them all is allocated at the start.
//! - Each subscriber clones each event: put large ones into an [`Arc`].
//! - A subscriber that itself holds an [`EventBus`] keeps the bus open and waits for ever.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// What the events change. Subscribers can keep a copy of it up to date by the same function.
pub trait State: Clone {
    /// One change.
    type Event: Clone;

    /// Makes the change. Runs under the bus's lock: keep it short, and publish nothing from it.
    fn apply(&mut self, event: &Self::Event);
}

/// The end that publishes. Clone it for each publisher; the last one dropped closes the bus.
#[derive(Debug)]
pub struct EventBus<S: State> {
    /// Locked while events are sent and while a receiver is made, so that a state and the position
    /// of a receiver taken together belong together.
    state: Arc<Mutex<Arc<S>>>,
    events: broadcast::Sender<S::Event>,
}

/// The end that listens.
#[derive(Debug)]
pub struct Subscription<S: State> {
    state: Arc<Mutex<Arc<S>>>,
    events: broadcast::Receiver<S::Event>,
    first: Option<Arc<S>>,
}

/// What a subscriber gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update<S: State> {
    /// Start again from here: the first update of all, and the one after falling behind.
    Snapshot {
        /// The state with every event before the next [`Update::Event`] in it, and no later one.
        state: Arc<S>,
        /// How many events this subscription will never be given, since its last update.
        missed: u64,
    },
    /// The next event.
    Event(S::Event),
}

/// The capacity is above [`MAX_CAPACITY`]. The room would be allocated at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a capacity of {0} events is above the limit of {MAX_CAPACITY}")]
pub struct TooLarge(pub NonZeroUsize);

/// The largest capacity accepted: 1,048,576 events. A subscriber that is further behind than that
/// does better with a snapshot.
pub const MAX_CAPACITY: usize = 1 << 20;

impl<S: State> EventBus<S> {
    /// Opens a bus. A subscriber may be `capacity` events behind before it misses any; the number
    /// is rounded up to a power of two.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if `capacity` is above [`MAX_CAPACITY`].
    pub fn new(initial: S, capacity: NonZeroUsize) -> Result<Self, TooLarge> {
        if capacity.get() > MAX_CAPACITY {
            return Err(TooLarge(capacity)); // tokio would panic, or the allocator abort
        }
        Ok(Self {
            state: Arc::new(Mutex::new(Arc::new(initial))),
            events: broadcast::Sender::new(capacity.get()),
        })
    }

    /// Applies `event` to the state and gives it to every subscriber, be it none. Never waits for
    /// a subscriber.
    ///
    /// Events are applied and seen in one order by all. While a snapshot is held somewhere, the
    /// first event after it copies the state.
    ///
    /// # Panics
    ///
    /// If [`State::apply`] does: the event reaches nobody, and what was changed stays changed.
    pub fn publish(&self, event: S::Event) {
        let mut state = lock(&self.state);
        Arc::make_mut(&mut *state).apply(&event);
        // Under the lock: between the two, a new subscriber would get the event in its snapshot
        // and again from the channel, and two publishers could change places.
        drop(self.events.send(event)); // its only error is that nobody listens
    }

    /// Starts to listen. The first update is the state as it is now, the next one the first event
    /// published after this call.
    #[must_use = "events are for those who read them"]
    pub fn subscribe(&self) -> Subscription<S> {
        let state = lock(&self.state);
        Subscription {
            state: Arc::clone(&self.state),
            events: self.events.subscribe(),
            first: Some(Arc::clone(&state)),
        }
    }
}

impl<S: State> Subscription<S> {
    /// Waits for the next update. `None` once the last [`EventBus`] is gone and everything that it
    /// published was seen, as events or in a snapshot.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has taken no update: the next call gets it.
    pub async fn next(&mut self) -> Option<Update<S>> {
        if let Some(state) = self.first.take() {
            return Some(Update::Snapshot { state, missed: 0 });
        }
        match self.events.recv().await {
            Ok(event) => Some(Update::Event(event)),
            Err(RecvError::Lagged(overwritten)) => Some(self.catch_up(overwritten)),
            Err(RecvError::Closed) => None,
        }
    }

    /// Takes the state of now and moves on to the events after it.
    fn catch_up(&mut self, overwritten: u64) -> Update<S> {
        let guard = lock(&self.state);
        let state = Arc::clone(&guard);
        // What the channel still holds is in the state already, so it is skipped, and counted.
        let skipped = self.events.len() as u64;
        let from_now_on = self.events.resubscribe();
        drop(guard);
        self.events = from_now_on; // drops the old one, which walks over all that it has left
        Update::Snapshot {
            state,
            missed: overwritten + skipped,
        }
    }
}

/// A panic in `apply` is the publisher's to report: it must not take every subscriber with it.
fn lock<S>(state: &Mutex<Arc<S>>) -> MutexGuard<'_, Arc<S>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: State> Clone for EventBus<S> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            events: self.events.clone(),
        }
    }
}
