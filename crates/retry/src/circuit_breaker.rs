//! # Circuit breaker: stop calling what is down
//!
//! The other side is down, and every call waits out its time limit before it fails: callers pile up
//! behind calls that cannot succeed, and the calls keep the other side down. A breaker watches how
//! they end. When too many fail it opens, and refuses calls at once; after a while it lets single
//! calls through, probes, and closes when they succeed.
//!
//! ## Use it when
//! - callers can do something better than wait: answer from a cache, say that it is down, shed load.
//!
//! ## Use something else when
//! - only single calls fail: `backoff`, with `retry_budget`;
//! - one of several equal servers fails: leave it out of the choice, which is a load balancer's work.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features time
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - A time limit around the breaker drops a slow call, and a dropped call counts as nothing: a
//!   server that hangs would never open it. [`CircuitBreaker::call`] has the limit inside.
//! - What is the caller's own fault (not found, not allowed) is no failure of the other side. Say so
//!   in `is_failure`, or one bad client opens the breaker for all.
//! - One breaker for each destination: shared by two, the broken one takes the sound one with it.
//! - Breakers that opened together probe together. In a fleet, give each another [`Settings::open`].

use std::collections::VecDeque;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, timeout};

/// When to open, and when to close again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// So many of the last calls are remembered, however long ago they were.
    pub window: NonZeroUsize,
    /// It opens when so many of them have failed. More than `window` is as much as `window`.
    pub failures: NonZeroUsize,
    /// How long it refuses every call before it lets the first probe through.
    pub open: Duration,
    /// So many probes, one after another, must succeed before it closes.
    pub probes: NonZeroU32,
}

/// Refuses calls while too many fail. A clone is the same breaker.
#[derive(Debug, Clone)]
pub struct CircuitBreaker {
    settings: Settings,
    state: Arc<Mutex<State>>,
}

/// What a [`CircuitBreaker`] does with the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It lets calls through, and counts how they end.
    Closed,
    /// It refuses them for so long.
    Open {
        /// Until the first probe.
        retry_in: Duration,
    },
    /// It lets one call through at a time.
    HalfOpen,
}

/// The call was refused: nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the circuit is open: not before {retry_in:?}")]
pub struct Refused {
    /// The earliest time to ask again. Zero while a probe is under way.
    pub retry_in: Duration,
}

/// Why [`CircuitBreaker::call`] has no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError<E> {
    /// Nothing was sent.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It was not answered in time. Nobody knows whether it was done.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// It failed.
    #[error("the call failed")]
    Failed(#[source] E),
}

/// The right to make one call. Say how it ended; dropped without a word, it counts as nothing, or as
/// a failure if the drop is a panic's.
#[derive(Debug)]
#[must_use = "dropped, it says nothing of the call"]
pub struct Permit {
    breaker: CircuitBreaker,
    /// The phase that it was given in. What ends in a later one says nothing about that.
    phase: u64,
    told: bool,
}

#[derive(Debug)]
struct State {
    phase: u64,
    now: Phase,
}

#[derive(Debug)]
enum Phase {
    /// How the last calls ended, the oldest first: true for a failure.
    Closed {
        last: VecDeque<bool>,
    },
    Open {
        until: Option<Instant>,
    },
    HalfOpen {
        probing: bool,
        succeeded: u32,
    },
}

impl CircuitBreaker {
    /// A closed one.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let now = Phase::Closed {
            last: VecDeque::new(),
        };
        Self {
            settings,
            state: Arc::new(Mutex::new(State { phase: 0, now })),
        }
    }

    /// Makes a call if the breaker allows it, and tells the breaker how it ended. An error counts if
    /// `is_failure` says so, a call without an answer within `limit` always.
    ///
    /// # Errors
    ///
    /// [`CallError`]: refused, timed out, or the error of `call` itself.
    ///
    /// # Panics
    ///
    /// If `call` or `is_failure` does: a call that panics counts as a failure. If polled outside of a
    /// Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it drops the call, which then counts as nothing; a probe makes room
    /// for the next.
    pub async fn call<T, E>(
        &self,
        limit: Duration,
        is_failure: impl FnOnce(&E) -> bool,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CallError<E>> {
        let permit = self.try_acquire()?;
        let ended = timeout(limit, call).await;
        match &ended {
            Ok(Ok(_)) => permit.succeeded(),
            Ok(Err(error)) if !is_failure(error) => permit.succeeded(),
            Ok(Err(_)) | Err(_) => permit.failed(),
        }
        ended
            .map_err(|_| CallError::TimedOut(limit))?
            .map_err(CallError::Failed)
    }

    /// Asks to make a call, for code that [`call`](Self::call) does not fit.
    ///
    /// # Errors
    ///
    /// [`Refused`] while it is open, or while a probe is under way.
    pub fn try_acquire(&self) -> Result<Permit, Refused> {
        let mut state = self.lock();
        match &mut state.now {
            Phase::Closed { .. } => {}
            Phase::Open { until } => match remaining(*until) {
                Duration::ZERO => state.enter(Phase::HalfOpen {
                    probing: true,
                    succeeded: 0,
                }),
                retry_in => return Err(Refused { retry_in }),
            },
            Phase::HalfOpen { probing: true, .. } => {
                let retry_in = Duration::ZERO;
                return Err(Refused { retry_in });
            }
            Phase::HalfOpen { probing, .. } => *probing = true,
        }
        Ok(Permit {
            phase: state.phase,
            breaker: self.clone(),
            told: false,
        })
    }

    /// What it would do with a call now, for metrics and health checks.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.lock().now {
            Phase::Closed { .. } => Status::Closed,
            Phase::Open { until } => match remaining(*until) {
                Duration::ZERO => Status::HalfOpen,
                retry_in => Status::Open { retry_in },
            },
            Phase::HalfOpen { .. } => Status::HalfOpen,
        }
    }

    /// Counts how a call of this phase ended; `None` if nobody knows.
    fn ended(&self, phase: u64, failed: Option<bool>) {
        let mut state = self.lock();
        if state.phase != phase {
            return; // begun before the breaker changed its mind: old news
        }
        let changed = match (&mut state.now, failed) {
            (Phase::Closed { last }, Some(failed)) => {
                if last.len() >= self.settings.window.get() {
                    last.pop_front();
                }
                last.push_back(failed);
                let failures = last.iter().filter(|failed| **failed).count();
                let enough = self.settings.failures.min(self.settings.window).get();
                (failures >= enough).then_some(true)
            }
            (Phase::HalfOpen { .. }, Some(true)) => Some(true),
            (Phase::HalfOpen { probing, succeeded }, failed) => {
                *probing = false;
                *succeeded += u32::from(failed.is_some());
                (*succeeded >= self.settings.probes.get()).then_some(false)
            }
            (Phase::Closed { .. }, None) | (Phase::Open { .. }, _) => None,
        };
        match changed {
            Some(true) => {
                let until = Instant::now().checked_add(self.settings.open);
                state.enter(Phase::Open { until });
            }
            Some(false) => state.enter(Phase::Closed {
                last: VecDeque::new(),
            }),
            None => {}
        }
        drop(state); // whoever listens to events may ask for the status
        match changed {
            Some(true) => tracing::warn!(open = ?self.settings.open, "the circuit opens"),
            Some(false) => tracing::info!("the circuit closes"),
            None => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, now: Phase) {
        self.phase += 1;
        self.now = now;
    }
}

/// How long until then. `None` is later than the clock can count.
fn remaining(until: Option<Instant>) -> Duration {
    until.map_or(Duration::MAX, |until| {
        until.saturating_duration_since(Instant::now())
    })
}

impl Permit {
    /// The other side works.
    pub fn succeeded(mut self) {
        self.tell(Some(false));
    }

    /// The other side does not.
    pub fn failed(mut self) {
        self.tell(Some(true));
    }

    fn tell(&mut self, failed: Option<bool>) {
        self.told = true;
        self.breaker.ended(self.phase, failed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.told {
            self.tell(std::thread::panicking().then_some(true));
        }
    }
}
