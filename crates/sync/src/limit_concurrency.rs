//! # Limit concurrency: Semaphore
//!
//! A database takes ten queries at once, and a thousand callers have one. The limiter lets a fixed
//! number run and the next ones wait their turn, first come, first served. How many may wait is
//! limited as well: whoever comes on top of that is refused at once, while an error is still of use.
//!
//! ## Use it when
//! - calls from many tasks share something that bears only so much at once: a server, memory, a disk;
//! - overload has to be an answer ("busy"), not a queue that grows until the process dies.
//!
//! ## Use something else when
//! - it is calls per second that are limited, however short they are: `limit_rate`;
//! - all inputs are known beforehand: `spawn_batch`; jobs go into a queue: `work_queue`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features sync
//! ```
//!
//! ## Watch out
//! - `let _ = limiter.acquire().await` drops the permit on that line, and nothing is limited.
//! - `spawn(async move { work().await })` takes along only what its body names: the permit stays
//!   behind with the spawner. `spawn(permit.run(work()))` cannot get that wrong.
//! - Acquire before you spawn. 100,000 tasks that each begin with `acquire` are all alive and waiting;
//!   the other way round there are no more than may run.
//! - Work that enters its own limiter again can wait for itself for ever.
//! - A permit is handed to the longest waiting future even if nobody polls that one (it stands beside
//!   a `select!` loop, or in a stream that is not read). Until it is polled or dropped, nobody else
//!   gets that permit. Await it, or spawn it.
//! - With permits of several sizes (`Semaphore::acquire_many`), a large request at the head of the
//!   queue holds back the small ones behind it, though there is room for them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many may run and how many may wait. Beyond `u32::MAX` together, there are no more than that.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Permits out at once.
    pub running: NonZeroUsize,
    /// Callers waiting for a permit. With 0 nobody waits: there is a permit now or a refusal.
    pub waiting: usize,
}

/// Hands out permits. Its clones share the limits.
#[derive(Debug, Clone)]
pub struct Limiter {
    slots: Arc<Semaphore>,
    /// A place is held from before the wait until after the work.
    places: Arc<Semaphore>,
    all_places: u32,
}

/// The right to run. Dropping it lets the next one run.
///
/// It borrows nothing, so it can be moved into a task or kept in a struct. A panic or a cancellation
/// drops it like anything else that the work owns.
#[must_use = "the permit is gone as soon as it is dropped: name it, and keep it until the work is done"]
#[derive(Debug)]
pub struct Permit {
    // Dropped in this order: the other way round, a newcomer could find a place while all who are
    // allowed to wait still do.
    _slot: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// As many run and as many wait as may.
    #[error("too many wait already: try again later, or tell your own caller that you are busy")]
    Busy,
    /// [`Limiter::close`] was called.
    #[error("the limiter is closed and lets nothing run any more: stop")]
    Closed,
}

impl Limiter {
    /// A limiter with all its permits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let running = limits.running.get();
        let places = running
            .saturating_add(limits.waiting)
            .min(Semaphore::MAX_PERMITS); // more would panic
        let all_places = u32::try_from(places).unwrap_or(u32::MAX); // as `acquire_many` counts
        let places = places.min(all_places as usize);
        Self {
            slots: Arc::new(Semaphore::new(running.min(places))),
            places: Arc::new(Semaphore::new(places)),
            all_places,
        }
    }

    /// Runs `work` once there is a permit, and gives the permit back when the work has ended, whether
    /// it completed, panicked or was dropped.
    ///
    /// # Errors
    ///
    /// [`Refused`], and the work has not begun.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it drops the work where that stands, and the permit after it.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Refused> {
        let permit = self.acquire().await?;
        Ok(permit.run(work).await)
    }

    /// Waits for a permit, in the order of the calls. To wait no longer than you like, put it in a
    /// `timeout`.
    ///
    /// # Errors
    ///
    /// [`Refused::Busy`], without a wait, if too many wait already; [`Refused::Closed`] once the
    /// limiter is closed, to those who wait at that time as well.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has no permit and has given up its place in the queue.
    pub async fn acquire(&self) -> Result<Permit, Refused> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            // While somebody drains the limiter, the places are gone because it is closed.
            let closed = self.slots.is_closed();
            return Err(if closed {
                Refused::Closed
            } else {
                Refused::Busy
            });
        };
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        Ok(Permit {
            _slot: slot.map_err(|_| Refused::Closed)?,
            _place: place,
        })
    }

    /// Hands out no more permits, for good. What runs goes on.
    pub fn close(&self) {
        self.slots.close();
    }

    /// Closes the limiter and waits until no permit is out and nobody waits for one. To wait no longer
    /// than you like, put it in a `timeout`.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has closed the limiter. Call it again to go on waiting.
    pub async fn drain(&self) {
        self.close();
        // An error would mean that the places are closed, and nobody does that.
        drop(self.places.acquire_many(self.all_places).await);
    }
}

impl Permit {
    /// Runs `work` and gives the permit back when it has ended. For `tokio::spawn(permit.run(work))`.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it drops the work where that stands, and the permit after it.
    pub fn run<T>(self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        work_then_permit(work, self)
    }
}

/// Takes the work first: a future that is dropped before its first poll drops its arguments in order.
async fn work_then_permit<T>(work: impl Future<Output = T>, permit: Permit) -> T {
    let result = work.await;
    drop(permit); // it is named here, so it lives until here
    result
}
