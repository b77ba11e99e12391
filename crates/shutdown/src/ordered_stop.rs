//! # Ordered stop: stages that share one deadline
//!
//! A program stops from the outside in: first the listeners, then the workers that still answer,
//! then the storage they write to. The platform sets one deadline for all of it. Each stage gets a
//! share, so that one that hangs or fails costs the later ones nothing, and the storage is flushed.
//!
//! ## Use it when
//! - what stops later is needed by what stops earlier;
//! - there is one deadline, and the last stage is the one that must not be skipped.
//!
//! ## Use something else when
//! - the parts need nothing of each other: stop them together, `supervisor` or `join!`;
//! - what stops is many units of the same kind: `graceful_shutdown`, as a stage of this.
//!
//! ## Add to your project
//! ```console
//! cargo add tokio --features rt,time
//! cargo add tokio-util --features rt
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - One `timeout` around all stages: the first that hangs uses up the time, and the storage is never
//!   flushed. `stop_listeners().await?` in a row: the first error skips the rest.
//! - A stage that itself waits for as long as it was given is aborted at its next await after that,
//!   and its own report is lost. Let what it waits for take less.
//! - What a stage spawns by itself is not aborted with it.
//! - A stage that never awaits is left behind as [`Outcome::StillRunning`], and **runs while the later
//!   ones stop**. If it runs on the only worker thread, no timer fires: the limits do not hold.
//!
//! A stage may be an [`OrderedStop`] again, or a `join!` of several: that makes it a tree.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

/// Stages to be stopped one after the other. `E` is what a stage may fail with.
///
/// Dropped before all have ended, it begins no other, aborts the one under way, and an event names
/// those that are left.
#[must_use = "nothing stops until it is run"]
pub struct OrderedStop<E>(VecDeque<Stage<E>>);

struct Stage<E> {
    name: Arc<str>,
    share: NonZeroU32,
    stop: Option<Stop<E>>,
}

type Stop<E> = Box<dyn FnOnce(Duration) -> Stopping<E> + Send>;
type Stopping<E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send>>;

/// How long [`OrderedStop::run`] takes: the sum of the two at most. Each is divided by the stages'
/// shares; what a stage does not use is divided among the later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopLimits {
    /// For stages to end on their own. One that has not within its share is aborted. With zero, each
    /// is begun and aborted at its first await.
    pub finish: Duration,
    /// For aborted stages to come to an await. With zero, those are still running that would have;
    /// with both zero, a stage may be given up before it begins.
    pub abort: Duration,
}

/// A stage and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended<E> {
    /// The name it was added with.
    pub name: Arc<str>,
    /// How it ended.
    pub outcome: Outcome<E>,
    /// From its begin to its end, or to when it was left behind.
    pub took: Duration,
}

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<E> {
    /// It returned `Ok`.
    Finished,
    /// It returned this error.
    Failed(E),
    /// It panicked with this message.
    Panicked(String),
    /// It used up its share and was aborted, or the runtime shut down. It is gone.
    Aborted,
    /// It was aborted and did not stop in time. **It runs on** until its next await.
    StillRunning,
}

impl<E: fmt::Debug + Send + 'static> OrderedStop<E> {
    /// Without stages.
    pub const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Adds a stage, to be stopped after those before it. `share` is in proportion to the other
    /// stages' shares. `stop` is called when its turn comes, with the time it has until it is aborted.
    pub fn stage<F>(
        mut self,
        name: impl Into<Arc<str>>,
        share: NonZeroU32,
        stop: impl FnOnce(Duration) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        self.0.push_back(Stage {
            name: name.into(),
            share,
            stop: Some(Box::new(|limit| Box::pin(stop(limit)))),
        });
        self
    }

    /// Stops the stages in their order, whether those before have finished or not. Returns how each
    /// ended; an event tells of each that did not finish.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or in one without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it aborts the stage under way and begins no later one; those that
    /// had finished stay stopped, and an event names the others.
    pub async fn run(mut self, limits: StopLimits) -> Vec<Ended<E>> {
        let StopLimits {
            mut finish,
            mut abort,
        } = limits;
        let mut shares = self
            .0
            .iter()
            .map(|stage| u64::from(stage.share.get()))
            .sum();
        let mut all = Vec::new();
        while let Some(stage) = self.0.front_mut() {
            let own = StopLimits {
                finish: part(finish, stage.share, shares),
                abort: part(abort, stage.share, shares),
            };
            shares -= u64::from(stage.share.get());
            let began = Instant::now();
            let outcome = match stage.stop.take() {
                Some(stop) => stop_within(own, stop).await,
                None => break, // each stage is begun once
            };
            let took = began.elapsed();
            let aborting = took.saturating_sub(own.finish).min(own.abort);
            abort -= aborting;
            finish = finish.saturating_sub(took - aborting); // a late timer is on everybody's account
            let name = Arc::clone(&stage.name);
            if !matches!(outcome, Outcome::Finished) {
                tracing::error!(stage = %name, ?outcome, ?took, "a stage did not stop as it should");
            }
            all.push(Ended {
                name,
                outcome,
                took,
            });
            self.0.pop_front(); // not before its end: until then it is among those that are left
        }
        all
    }
}

/// Runs one stage in a task of its own, so that it cannot hold up the others.
async fn stop_within<E: Send + 'static>(limits: StopLimits, stop: Stop<E>) -> Outcome<E> {
    // This limit is the task's own: it gets to its first await even if the limit is zero.
    let stopping = async move { timeout(limits.finish, stop(limits.finish)).await };
    let task = AbortOnDropHandle::new(tokio::spawn(stopping));
    match timeout(limits.finish.saturating_add(limits.abort), task).await {
        Ok(Ok(Ok(Ok(())))) => Outcome::Finished,
        Ok(Ok(Ok(Err(error)))) => Outcome::Failed(error),
        Ok(Ok(Err(_))) => Outcome::Aborted,
        Ok(Err(error)) => Outcome::lost(error),
        Err(_) => Outcome::StillRunning,
    }
}

/// `share` of `shares` parts of `time`. In whole numbers: floating point would round the longest
/// time up, past the end of the type.
fn part(time: Duration, share: NonZeroU32, shares: u64) -> Duration {
    let nanos = time.as_nanos() * u128::from(share.get()) / u128::from(shares.max(1));
    Duration::from_nanos_u128(nanos)
}

impl<E> Outcome<E> {
    fn lost(error: JoinError) -> Self {
        let Ok(panic) = error.try_into_panic() else {
            return Self::Aborted;
        };
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::Panicked(text.unwrap_or("no message").to_owned())
    }
}

impl<E> Drop for OrderedStop<E> {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            tracing::error!(stages = ?self, "dropped before these stages were stopped");
        }
    }
}

impl<E: fmt::Debug + Send + 'static> Default for OrderedStop<E> {
    fn default() -> Self {
        Self::new()
    }
}

/// The names of the stages that have not ended.
impl<E> fmt::Debug for OrderedStop<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|stage| &stage.name))
            .finish()
    }
}
