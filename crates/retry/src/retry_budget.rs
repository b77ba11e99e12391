//! # Retry budget: retries as a share of traffic
//!
//! Three tries for each call triple the load just when the other side fails under it. Each caller is
//! modest, and all of them together keep it down. A budget that all share allows retries as a part of
//! the requests, one in ten say: while few fail every one of them is tried again, and in an outage
//! the load grows by a tenth, not by three.
//!
//! ## Use it when
//! - many requests go to one destination, and each may be tried again.
//!
//! ## Use something else when
//! - the question is when to try again: `backoff`, whose `judge` can ask this budget;
//! - nothing should be sent at all while the other side is down: `circuit_breaker`;
//! - requests pass through tower services: `retry_layer`, which has a budget.
//!
//! ## Add to your project
//! ```console
//! cargo add tokio --features time
//! ```
//!
//! ## Watch out
//! - Without a budget, retries in three layers keep a server down for good: shown in `retry_storm`.
//! - One budget for each destination, shared by all who call it. One for each request limits nothing.
//! - Count a request once, not each of its tries, or retries pay for further retries.
//! - Shares multiply: three services, one behind the other, each with a tenth, send a third more to
//!   the last.
//! - A share alone is nothing to a client of few requests: [`Settings::per_second`] lets it retry.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// How many retries there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Retries for each hundred requests.
    pub percent: u32,
    /// Retries for each second, whatever the traffic.
    pub per_second: u32,
    /// Retries that can be saved up while few are needed. A new budget has this many.
    pub saved: u32,
}

/// Allows retries in proportion to requests. Share it by reference or in an `Arc`.
#[derive(Debug)]
pub struct RetryBudget {
    settings: Settings,
    state: Mutex<State>,
}

/// What has been asked of a budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests, each counted once.
    pub requests: u64,
    /// Retries that were allowed.
    pub allowed: u64,
    /// Retries that were refused: how bad it would have become.
    pub refused: u64,
}

#[derive(Debug)]
struct State {
    /// In billionths of a retry, so that a nanosecond and a per cent are whole numbers of them.
    balance: u64,
    updated: Instant,
    counts: Counts,
}

const RETRY: u64 = 1_000_000_000;

impl RetryBudget {
    /// A budget with [`Settings::saved`] retries in it.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let state = State {
            balance: u64::from(settings.saved) * RETRY,
            updated: Instant::now(),
            counts: Counts::default(),
        };
        Self {
            settings,
            state: Mutex::new(state),
        }
    }

    /// Counts a request, and adds its share to the budget. Call it for the first try alone.
    pub fn request(&self) {
        let mut state = self.state();
        state.counts.requests += 1;
        self.add(&mut state, u64::from(self.settings.percent) * (RETRY / 100));
    }

    /// Takes a retry from the budget. If there is none left, do not try again.
    #[must_use = "a retry that was refused must not be made"]
    pub fn try_retry(&self) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(state.updated);
        state.updated = now;
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let earned = nanoseconds.saturating_mul(u64::from(self.settings.per_second));
        self.add(&mut state, earned);
        match state.balance.checked_sub(RETRY) {
            Some(rest) => {
                state.balance = rest;
                state.counts.allowed += 1;
                true
            }
            None => {
                state.counts.refused += 1;
                false
            }
        }
    }

    /// What has been asked of it so far, for metrics.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    fn add(&self, state: &mut State, earned: u64) {
        // One retry can always be saved: with less, a share would never add up to one.
        let most = u64::from(self.settings.saved.max(1)) * RETRY;
        state.balance = state.balance.saturating_add(earned).min(most);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is a few additions that cannot panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
