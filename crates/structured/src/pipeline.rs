//! # Pipeline: bounded mpsc between stages
//!
//! Items go through several steps: fetch, parse, store. Each step is to work while the others do, and
//! none may run ahead of the next until the memory is full. And if one fails, by an error or a panic,
//! all of it has to end with that failure, not with half of the items and a result that looks whole.
//!
//! ## Use it when
//! - each item passes the same steps, and these wait for different things;
//! - a failure of one item is a failure of the whole. Otherwise let the items be `Result`s.
//!
//! ## Use something else when
//! - there is one step: `batch`, `fan_out`, or `concurrent_map` without a task;
//! - items come from many producers, and the failure of one is its own affair: `work_queue`;
//! - a step does next to nothing: make it a part of the one before it, and save the way between.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features rt,sync
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - With bare channels, a stage that panics drops its ends like one that is done: the stages after
//!   it finish, and what came through so far is taken for everything: `panic_taken_for_the_end`.
//! - A failure drops what is on its way, also items that an earlier stage has already acted on. To
//!   stop and lose none, end the source: `source.take_until(token.cancelled_owned())`.
//! - In a stage that works on several items at once they overtake each other. Number them.
//! - Nothing limits the time of a stage. One that hangs stops all of them, and `next` with them: put a
//!   time limit inside. One that never awaits also holds up the report of another's failure.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures_util::{FutureExt, Stream, StreamExt};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::coop::{consume_budget, unconstrained};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// Stages at work, and the items `T` that come out of the last one.
///
/// Dropping it aborts all of them: they stop at their next await. **Code that does not await, and
/// blocking tasks that a stage has begun, run to their end.**
#[derive(Debug)]
#[must_use = "dropping it stops all stages"]
pub struct Pipeline<T, E> {
    items: mpsc::Receiver<T>,
    tasks: JoinSet<Result<(), Cause<E>>>,
    stages: HashMap<Id, Arc<str>>,
    /// For the tasks, so that one that fails can stop the others. `None` once one has.
    all: Arc<Mutex<Option<Vec<AbortHandle>>>>,
    failure: Option<StageFailed<E>>,
    capacity: usize,
    limit: usize,
}

/// The first stage that failed. All others have ended as well.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("stage {stage} {cause}")]
pub struct StageFailed<E> {
    /// The name it was added with.
    pub stage: Arc<str>,
    /// Why it failed.
    pub cause: Cause<E>,
}

/// Why a stage failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Cause<E> {
    /// It returned this error.
    #[error("failed: {0}")]
    Failed(E),
    /// It panicked with this message.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The runtime shut down before it was done.
    #[error("was cancelled: the runtime shut down")]
    Cancelled,
}

impl<T: Send + 'static, E: fmt::Display + Send + 'static> Pipeline<T, E> {
    /// Starts a task that takes items from `source`, one for each place that is free. There is room
    /// for `capacity` items between any two stages, and before [`next`](Self::next).
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub fn new(
        name: impl Into<Arc<str>>,
        capacity: NonZeroUsize,
        source: impl Stream<Item = Result<T, E>> + Send + 'static,
    ) -> Self {
        let capacity = capacity.get().min(Semaphore::MAX_PERMITS); // more would panic
        let (output, items) = mpsc::channel(capacity);
        let mut pipeline = Self {
            items,
            tasks: JoinSet::new(),
            stages: HashMap::new(),
            all: Arc::new(Mutex::new(Some(Vec::new()))),
            failure: None,
            capacity,
            limit: capacity,
        };
        pipeline.spawn(name.into(), async move {
            let mut source = pin!(source);
            // The place first: an item is not taken from where it is safe before it has one.
            while let Ok(place) = output.reserve().await {
                match source.next().await {
                    Some(item) => place.send(item?),
                    None => break,
                }
            }
            Ok(())
        });
        pipeline
    }

    /// Adds a stage that works on one item after the other. Items keep their order.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub fn stage<U, F>(
        self,
        name: impl Into<Arc<str>>,
        work: impl FnMut(T) -> F + Send + 'static,
    ) -> Pipeline<U, E>
    where
        U: Send + 'static,
        F: Future<Output = Result<U, E>> + Send + 'static,
    {
        let (input, output, mut pipeline) = self.extend(1);
        pipeline.spawn(name.into(), work_on(input, output, work));
        pipeline
    }

    /// Adds a stage of `workers` tasks, each with one item at a time. **Items leave it in the order
    /// in which they are done.** All of them are spawned here, so an enormous number is not "no limit".
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub fn concurrent_stage<U, F>(
        self,
        name: impl Into<Arc<str>>,
        workers: NonZeroUsize,
        work: impl Fn(T) -> F + Send + Sync + 'static,
    ) -> Pipeline<U, E>
    where
        U: Send + 'static,
        F: Future<Output = Result<U, E>> + Send + 'static,
    {
        let (input, output, mut pipeline) = self.extend(workers.get());
        let (name, work) = (name.into(), Arc::new(work));
        let input = Arc::new(Shared {
            receiver: tokio::sync::Mutex::new(input),
            waiting: AtomicUsize::new(0),
        });
        for _ in 0..workers.get() {
            let (input, work) = (Arc::clone(&input), Arc::clone(&work));
            let worker = work_on(input, output.clone(), move |item| work(item));
            pipeline.spawn(Arc::clone(&name), worker);
        }
        pipeline
    }

    /// How many items can be on their way at most, taken from the source and not yet returned by
    /// [`next`](Self::next): `capacity` for each stage and for the source, and one for each worker.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Waits for the next item. `None` once the source has ended and every item has come out.
    ///
    /// # Errors
    ///
    /// [`StageFailed`] once a stage has failed, the others have been stopped and awaited, and the
    /// items that had passed the last stage are read. A further failure in the meantime is an event.
    /// After an error there is only `None`.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has taken no item and no error: the next call gets it.
    pub async fn next(&mut self) -> Result<Option<T>, StageFailed<E>> {
        if let Some(item) = self.items.recv().await {
            return Ok(Some(item));
        }
        // All have ended or will: after a clean end for want of input, after a failure by an abort.
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.record(ended);
        }
        self.failure.take().map_or(Ok(None), Err)
    }

    /// Waits for the end, for pipelines whose last stage leaves nothing to be done. Returns how many
    /// items have come out; they are dropped.
    ///
    /// # Errors
    ///
    /// Like [`next`](Self::next).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it drops the pipeline and so aborts all stages.
    pub async fn finish(mut self) -> Result<u64, StageFailed<E>> {
        let mut count = 0;
        while self.next().await?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    fn extend<U>(self, workers: usize) -> (mpsc::Receiver<T>, mpsc::Sender<U>, Pipeline<U, E>) {
        let (output, items) = mpsc::channel(self.capacity);
        let pipeline = Pipeline {
            items,
            tasks: self.tasks,
            stages: self.stages,
            all: self.all,
            failure: self.failure,
            capacity: self.capacity,
            limit: self
                .limit
                .saturating_add(workers)
                .saturating_add(self.capacity),
        };
        (self.items, output, pipeline)
    }

    fn spawn(
        &mut self,
        name: Arc<str>,
        stage: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let all = Arc::clone(&self.all);
        let task = self.tasks.spawn(async move {
            let ended = AssertUnwindSafe(stage).catch_unwind().await;
            let ended = match ended {
                Ok(ended) => ended.map_err(Cause::Failed),
                Err(panic) => Err(Cause::panicked(panic.as_ref())),
            };
            if ended.is_err() {
                // Here, not in `next`: they are to stop at once, whether that is called or not. A task
                // that aborts itself at its end is told as it ended.
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.take().iter().flatten().for_each(AbortHandle::abort);
            }
            ended
        });
        self.stages.insert(task.id(), name);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match all.as_mut() {
            Some(all) => all.push(task),
            None => task.abort(), // one failed while stages were still being added
        }
    }

    fn record(&mut self, ended: Result<(Id, Result<(), Cause<E>>), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let stage = self.stages.remove(&id).unwrap_or_default(); // each task has one
        let cause = match ended.map_err(JoinError::try_into_panic) {
            Ok((_, Ok(()))) => return,
            Ok((_, Err(cause))) => cause,
            Err(Ok(panic)) => Cause::panicked(panic.as_ref()), // a destructor's, in the abort
            Err(Err(_)) => Cause::Cancelled,
        };
        match &self.failure {
            Some(_) if matches!(cause, Cause::Cancelled) => {} // by the failure
            Some(first) if !matches!(first.cause, Cause::Cancelled) => {
                tracing::error!(%stage, %cause, "a further stage failed");
            }
            _ => self.failure = Some(StageFailed { stage, cause }),
        }
    }
}

/// Ends when there is no more input, or nobody takes the output.
async fn work_on<T, U, E, F: Future<Output = Result<U, E>>>(
    mut input: impl Input<T>,
    output: mpsc::Sender<U>,
    mut work: impl FnMut(T) -> F,
) -> Result<(), E> {
    while let Some(item) = input.next().await {
        if output.send(work(item).await?).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// A receiver of one's own, or one that workers share.
trait Input<T>: Send {
    fn next(&mut self) -> impl Future<Output = Option<T>> + Send;
}

impl<T: Send> Input<T> for mpsc::Receiver<T> {
    fn next(&mut self) -> impl Future<Output = Option<T>> + Send {
        self.recv()
    }
}

/// The items that wait for the workers of a stage.
struct Shared<T> {
    receiver: tokio::sync::Mutex<mpsc::Receiver<T>>,
    /// How many workers wait for that lock.
    waiting: AtomicUsize,
}

impl<T> Shared<T> {
    /// The lock is held while waiting for the item, and free again when the work on it begins.
    async fn take(&self) -> Option<T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut receiver = self.receiver.lock().await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        receiver.recv().await
    }
}

impl<T: Send> Input<T> for Arc<Shared<T>> {
    async fn next(&mut self) -> Option<T> {
        // Asked for before the lock is held, under which a worker that has used up its budget would
        // keep the others waiting.
        consume_budget().await;
        let item = unconstrained(self.take()).await;
        if self.waiting.load(Ordering::Relaxed) > 0 {
            // The next worker was woken on this thread, and what was woken last no other thread takes:
            // it would wait here until this worker's work gives way.
            give_way().await;
        }
        item
    }
}

/// Like `yield_now`, but this task is at once among those that other threads take.
async fn give_way() {
    let mut gone = false;
    poll_fn(|cx| {
        if mem::replace(&mut gone, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl<E> Cause<E> {
    fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::Panicked(text.unwrap_or("no message").to_owned())
    }
}
