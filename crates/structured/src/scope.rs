//! # Scope: children that end before their parent does
//!
//! A function starts tasks to do its work, and returns early, fails or panics. Started with
//! `tokio::spawn`, they run on: with its connection, its lock, its half of a transaction. In a scope
//! the function's body can end as it likes. Whatever it has started is asked to stop, waited for, in
//! the end aborted, and only then does the scope return, and tell what became of each.
//!
//! ## Use it when
//! - tasks serve one call: its requests, a heartbeat beside a long job, both directions of a copy;
//! - the caller is to find nothing running when that call is over, whichever way it ended.
//!
//! ## Use something else when
//! - the same work is done for a list of inputs: `batch`;
//! - units come and go as long as the program runs: `graceful_shutdown`, which only counts those that
//!   finished; tasks should be started again: `supervisor`;
//! - the work borrows from its parent: `concurrent_map` and `join!` run it in the parent's own task.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features rt,sync,time
//! cargo add tokio-util --features rt
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - **Nothing stops code that does not await, nor a blocking task that has begun.** Past both limits
//!   the scope returns without it and says so: [`Outcome::StillRunning`]. If such code has the only
//!   worker thread, no timer fires, and the scope returns late.
//! - **A drop cannot wait.** If the scope's future is dropped, by a timeout or an abort of its task,
//!   its children are aborted, and may run for a moment longer. Rather cancel the parent's token.
//! - What a child starts with `tokio::spawn` belongs to nobody. Give it a clone of the [`Scope`], or
//!   let it open a scope of its own with its token as the parent, and with shorter limits: an inner
//!   scope that still waits when the outer one aborts is dropped, and cannot wait any more.
//! - The end of the body asks the children to stop. Await what you need: the value of one, or
//!   [`Scope::idle`] for all of them.
//! - `TaskTracker` alone aborts nothing when it is dropped, and its `wait` does not tell a panic.
//! - The report has an entry for each child, so a scope is not for an endless number of them.

use std::any::Any;
use std::fmt::Debug;
use std::mem;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::task::coop::unconstrained;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts children, whose errors are of the type `E`. Clone it for children that start others.
#[derive(Debug)]
pub struct Scope<E>(Arc<Shared<E>>);

/// How long a scope waits for its children once the body has ended: for the sum of the two at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopLimits {
    /// For children to end on their own. Those that do not are aborted.
    pub finish: Duration,
    /// For aborted children to come to an await. With zero, those are still running that would have.
    pub abort: Duration,
}

/// How the body ended, and then the children.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it alone tells of children that failed"]
pub struct Ended<T, E> {
    /// What the body returned.
    pub body: Result<T, Panicked>,
    /// All children, in the order in which they were started.
    pub children: Vec<(Arc<str>, Outcome<E>)>,
}

/// The body panicked. Its children were stopped all the same.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the body of the scope panicked: {message}")]
pub struct Panicked {
    /// The panic's message.
    pub message: String,
}

/// What became of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<E> {
    /// It returned `Ok`.
    Finished,
    /// It returned this error.
    Failed(E),
    /// It panicked with this message.
    Panicked(String),
    /// It was aborted, or the runtime shut down. It is gone, and what it owned is dropped.
    Aborted,
    /// It was aborted and did not stop in time. **It runs on** until its next await; a blocking one
    /// to its end, or it never begins.
    StillRunning,
}

/// The scope is stopping, or has ended. The child was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the scope is stopping and starts no more children")]
pub struct Stopping;

/// Runs `body` in the caller's task, then stops the children that it has started and returns what
/// became of them. They are asked to stop by their tokens, when the body ends, or when `parent` is
/// cancelled: the body should look at [`Scope::token`] as well.
///
/// The body may borrow; children may not, since a task cannot. A future may be dropped half way, or
/// leaked, and no destructor can await. So a task that runs beside its parent cannot be kept from
/// outliving what it would borrow. Give it an `Arc`, or a clone.
///
/// ```compile_fail,E0597
/// # use structured::scope::{scope, StopLimits};
/// # async fn f(parent: tokio_util::sync::CancellationToken, limits: StopLimits) {
/// let name = String::from("index");
/// let ended = scope(&parent, limits, async |scope| {
///     let length = scope.spawn("length", |_| async { Ok::<_, String>(name.len()) });
/// }).await;
/// # }
/// ```
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it drops the body and aborts the children without waiting for them. An
/// event tells of each that had not finished.
pub async fn scope<T, E: Debug + Send + 'static, F: Future<Output = T>>(
    parent: &CancellationToken,
    limits: StopLimits,
    body: impl FnOnce(Scope<E>) -> F,
) -> Ended<T, E> {
    let tracker = TaskTracker::new();
    tracker.close(); // it may still track more; its `wait` returns whenever there are none
    let owner = Owner(Scope(Arc::new(Shared {
        token: parent.child_token(),
        tracker,
        children: Mutex::default(),
    })));
    let scope = owner.0.clone();
    // Called inside the block, so that a panic before its first await is caught too.
    let body = AssertUnwindSafe(async { body(scope).await }).catch_unwind();
    let body = body.await.map_err(|panic| Panicked {
        message: message(panic.as_ref()),
    });
    let children = owner.stop(limits).await;
    Ended { body, children }
}

impl<E: Send + 'static> Scope<E> {
    /// Starts a child. `work` gets a token that asks it to stop. What it returns comes through the
    /// receiver, which may be dropped; if it comes to no value, the receiver gets a `RecvError`, and
    /// the report of the scope tells why.
    ///
    /// # Errors
    ///
    /// [`Stopping`] once the body has ended, or the scope's token is cancelled.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub fn spawn<V, F>(
        &self,
        name: impl Into<Arc<str>>,
        work: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> Result<oneshot::Receiver<V>, Stopping>
    where
        V: Send + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let (sender, value) = oneshot::channel();
        let token = self.0.token.child_token();
        self.admit(name.into(), |tracker| {
            tracker.spawn(async move { work(token).await.map(|value| drop(sender.send(value))) })
        })?;
        Ok(value)
    }

    /// Like [`spawn`](Self::spawn), for work that blocks: it runs on a thread of its own, and **can be
    /// stopped by nothing but the token** once it has begun.
    ///
    /// # Errors
    ///
    /// [`Stopping`] once the body has ended, or the scope's token is cancelled.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub fn spawn_blocking<V: Send + 'static>(
        &self,
        name: impl Into<Arc<str>>,
        work: impl FnOnce(CancellationToken) -> Result<V, E> + Send + 'static,
    ) -> Result<oneshot::Receiver<V>, Stopping> {
        let (sender, value) = oneshot::channel();
        let token = self.0.token.child_token();
        self.admit(name.into(), |tracker| {
            tracker.spawn_blocking(move || work(token).map(|value| drop(sender.send(value))))
        })?;
        Ok(value)
    }

    /// Waits until no child is left, those included that are started meanwhile. A child that awaits
    /// this waits for itself.
    ///
    /// # Cancel safety
    ///
    /// It only looks: nothing is lost when it is dropped.
    pub async fn idle(&self) {
        self.0.tracker.wait().await;
    }

    /// The token that asks the children to stop. Cancelling it asks them now; the body goes on. It is
    /// the parent for scopes that the body opens.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.0.token
    }

    fn admit(
        &self,
        name: Arc<str>,
        start: impl FnOnce(&TaskTracker) -> JoinHandle<Result<(), E>>,
    ) -> Result<(), Stopping> {
        let mut children = self.0.children(); // held, so that a stop finds the child or refuses it
        if self.0.token.is_cancelled() {
            return Err(Stopping);
        }
        children.push((name, start(&self.0.tracker)));
        Ok(())
    }
}

#[derive(Debug)]
struct Shared<E> {
    token: CancellationToken,
    tracker: TaskTracker,
    children: Mutex<Vec<Running<E>>>,
}

type Running<E> = (Arc<str>, JoinHandle<Result<(), E>>);

/// Stops the children when the scope's future ends or is dropped.
struct Owner<E: Debug>(Scope<E>);

impl<E: Debug> Owner<E> {
    async fn stop(self, limits: StopLimits) -> Vec<(Arc<str>, Outcome<E>)> {
        let shared = &self.0.0;
        shared.stop();
        let mut waited = timeout(limits.finish, shared.tracker.wait()).await;
        if waited.is_err() {
            shared.abort();
            waited = timeout(limits.abort, shared.tracker.wait()).await;
        }
        let children = mem::take(&mut *shared.children());
        let mut outcomes = Vec::with_capacity(children.len());
        for (name, task) in children {
            // A future is gone a moment before its task has ended, which is worth that moment. But
            // if one runs on, those that have ended are told from it without a wait.
            let ended = match waited {
                Ok(()) => Some(task.await),
                Err(_) => unconstrained(task).now_or_never(),
            };
            outcomes.push((name, Outcome::new(ended)));
        }
        outcomes
    }
}

impl<E: Debug> Drop for Owner<E> {
    fn drop(&mut self) {
        let shared = &self.0.0;
        shared.stop();
        shared.abort();
        let children = mem::take(&mut *shared.children()); // not in the head: it would stay locked
        for (child, task) in children {
            let outcome = Outcome::new(unconstrained(task).now_or_never());
            if !matches!(outcome, Outcome::Finished) {
                tracing::error!(%child, ?outcome, "a scope was dropped before its children ended");
            }
        }
    }
}

impl<E> Shared<E> {
    fn children(&self) -> MutexGuard<'_, Vec<Running<E>>> {
        let children = self.children.lock();
        children.unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the children to stop. Who was let in before that has left the lock, and is among them.
    fn stop(&self) {
        self.token.cancel();
        drop(self.children());
    }

    fn abort(&self) {
        for (_, task) in self.children().iter() {
            task.abort();
        }
    }
}

impl<E> Clone for Scope<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> Outcome<E> {
    fn new(ended: Option<Result<Result<(), E>, JoinError>>) -> Self {
        match ended.map(|joined| joined.map_err(JoinError::try_into_panic)) {
            Some(Ok(Ok(()))) => Self::Finished,
            Some(Ok(Err(error))) => Self::Failed(error),
            Some(Err(Ok(panic))) => Self::Panicked(message(panic.as_ref())),
            Some(Err(Err(_))) => Self::Aborted,
            None => Self::StillRunning,
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
