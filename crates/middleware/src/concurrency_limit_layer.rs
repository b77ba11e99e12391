//! # Concurrency limit layer: GlobalConcurrencyLimitLayer
//!
//! The database behind a dozen routes bears fifty requests at once. tower's `ConcurrencyLimitLayer`
//! counts anew in each service that it is laid around: fifty for each route, or for each connection,
//! and nobody sees how many there are. This is one limit that many services share, and that tells how
//! many of its places are taken.
//!
//! ## Use it when
//! - several services, or several routes of a server, use something that bears only so much at once;
//! - the number of requests under way is to be seen in the metrics.
//!
//! ## Use something else when
//! - no service is involved: `limit_concurrency`;
//! - it is requests per second that are limited: `rate_limit_layer`;
//! - those that find no place should be refused: `load_shed_layer` above this one.
//!
//! ## Add to your project
//! ```console
//! cargo add tokio --features sync
//! cargo add tower --features limit
//! ```
//!
//! ## Watch out
//! - `poll_ready` takes the place, `call` uses it. A service that is ready and not called keeps its
//!   place from everybody, for as long as it lives.
//! - So does one that was asked, was not ready, and is kept: it still stands in the line, and gets the
//!   next place though nobody waits for it. A `timeout(ready())` that struck, a request that a
//!   `BufferLayer` above dropped from its queue, a `LoadShedLayer` around a service of a connection
//!   that has fallen silent: each can take a place out of use.
//! - Therefore call a clone and drop it with the call: `service.clone().oneshot(request)`. What it had
//!   is free again whatever happens. `timeout_layer` and `load_shed_layer` do this by themselves.
//! - A future that has ended still has its place until it is dropped.
//! - The place is free when the response is there. What is read from it later, a body say, has none.
//! - How many may wait is not limited, nor for how long: `load_shed_layer`, `timeout_layer`.
//! - With a semaphore of your own in tower's layer, do not close it: the next request panics.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tower::limit::GlobalConcurrencyLimitLayer;

/// So many requests at once, in all services that have a [`layer`](Self::layer) of it or of a clone
/// of it. Those that find no place wait in `poll_ready`, first come, first served.
#[derive(Debug, Clone)]
pub struct SharedLimit {
    places: Arc<Semaphore>,
    limit: usize,
}

impl SharedLimit {
    /// A limit of that many places. More than a semaphore can have (2^61) are no more than that.
    #[must_use]
    pub fn new(limit: NonZeroUsize) -> Self {
        let limit = limit.get().min(Semaphore::MAX_PERMITS); // more would panic
        Self {
            places: Arc::new(Semaphore::new(limit)),
            limit,
        }
    }

    /// The layer for a service. Every layer of this limit has a part in the same places.
    #[must_use]
    pub fn layer(&self) -> GlobalConcurrencyLimitLayer {
        GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&self.places))
    }

    /// How many places there are.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many are taken: by requests under way, and by services that are ready and not called. If
    /// it stays up while nothing is done, a ready service is kept somewhere.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.limit.saturating_sub(self.places.available_permits())
    }
}
