//! # Work queue: bounded mpsc
//!
//! Many producers, a pool of workers, and work that arrives faster than it is done. The queue between
//! them is bounded, so a full one slows the producers down (backpressure) instead of filling the
//! memory; each job's outcome comes out at the other end, a panic included.
//!
//! ## Use it when
//! - jobs come from several tasks and go on coming: requests, events, lines of a file;
//! - a fixed number may be worked on at once, and producers can wait for their turn.
//!
//! ## Use something else when
//! - all inputs are known beforehand: `spawn_batch`;
//! - the sender of each job waits for its answer: `request_reply`;
//! - a job computes for more than about 100 µs between awaits: `cpu_offload`.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features macros,rt,sync
//! ```
//!
//! ## Watch out
//! - An unbounded channel makes nobody wait, and grows: `unbounded_queue` shows by how much.
//! - Read outcomes in another task than the one that pushes. A task that first pushes everything
//!   waits for ever once the queue, the workers and the outcomes are full.
//! - `while let Some(job) = jobs.lock().await.recv().await { … }` keeps the lock while the body
//!   runs: one worker works and the others wait for it, as shown in `shared_receiver_lock`. With the
//!   lock let go before the work, they still often run one at a time, on one thread, if the work does
//!   not await: here they do not.
//! - A handler that pushes into its own queue stands still with it once it is full: each worker
//!   waits for room that only another worker could make. Feed such finds back from the reader.
//! - A handler that captures something is "an async closure that does not implement `Fn`". Clone per
//!   job: `move |job| { let pool = Arc::clone(&pool); async move { … } }`, as the example does.
//! - What a panicking handler had locked and half changed is there for the next job as it was left:
//!   tokio's `Mutex` is not poisoned.
//! - With a bare channel, `recv` gives `None` only once every `Sender` is gone: a clone that somebody
//!   keeps also keeps the workers (`kept_sender`). Here [`Outcomes::close`] ends it all the same.

use std::any::Any;
use std::future::poll_fn;
use std::mem;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::select;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, MutexGuard, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::task::coop::{consume_budget, unconstrained};

/// How many jobs may wait and how many may run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Jobs worked on at once. Each worker is a task that is spawned at the start, so an enormous number
    /// is not "no limit".
    pub workers: NonZeroUsize,
    /// Jobs waiting for a worker, and outcomes waiting to be read.
    pub capacity: NonZeroUsize,
}

/// The end of the queue that takes jobs. Clone it for each producer.
#[derive(Debug)]
pub struct Queue<J> {
    jobs: mpsc::Sender<(u64, J)>,
    pushed: Arc<AtomicU64>,
    /// Changes with [`Outcomes::close`], ends with the [`Outcomes`].
    closing: watch::Receiver<()>,
}

/// The end of the queue that gives outcomes, in the order in which the jobs finish.
///
/// It owns the workers: **dropping it drops the jobs that wait, and stops those that run at their
/// next await**.
#[derive(Debug)]
pub struct Outcomes<R> {
    outcomes: mpsc::Receiver<Outcome<R>>,
    closing: watch::Sender<()>,
    _workers: JoinSet<()>,
}

/// How one job ended.
#[derive(Debug)]
pub struct Outcome<R> {
    /// The number that [`Queue::push`] returned for the job.
    pub job: u64,
    /// What the handler returned.
    pub result: Result<R, Panicked>,
}

/// The handler panicked. Only this job is affected; its worker goes on with the next.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the handler panicked: {message}")]
pub struct Panicked {
    /// The panic's message.
    pub message: String,
}

/// The queue is closed, or its [`Outcomes`] are gone. Here is the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the queue takes no more jobs")]
pub struct Closed<J>(pub J);

/// Why [`Queue::try_push`] did not take the job. Here it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TryPushError<J> {
    /// There is no room at the moment.
    #[error("the queue is full")]
    Full(J),
    /// The queue is closed, or its [`Outcomes`] are gone.
    #[error("the queue takes no more jobs")]
    Closed(J),
}

/// Starts `limits.workers` tasks that call `handler` with each job pushed to the returned queue.
///
/// The workers end when the queue is closed, or its last clone dropped, and every job is done.
///
/// # Panics
///
/// If called outside of a Tokio runtime.
#[must_use]
pub fn work_queue<J, R, F>(
    limits: Limits,
    handler: impl Fn(J) -> F + Send + Sync + 'static,
) -> (Queue<J>, Outcomes<R>)
where
    J: Send + 'static,
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let capacity = limits.capacity.get().min(Semaphore::MAX_PERMITS); // more would panic
    let (jobs, job_receiver) = mpsc::channel(capacity);
    let (outcome_sender, outcomes) = mpsc::channel(capacity);
    let (closing, closed) = watch::channel(());
    let waiting = Arc::new(Jobs {
        receiver: Mutex::new(job_receiver),
        turns: AtomicUsize::new(0),
    });
    let handler = Arc::new(handler);

    let mut workers = JoinSet::new();
    // A task of its own, since the workers may all be busy when the close or the drop comes, and
    // pushes that wait for room must not wait for them. Not aborted by the drop, which ends it.
    let (to_close, mut asked) = (Arc::clone(&waiting), closed.clone());
    tokio::spawn(async move {
        asked.changed().await.unwrap_or_default();
        to_close.lock().await.close();
    });
    for _ in 0..limits.workers.get() {
        let (waiting, mut closing) = (Arc::clone(&waiting), closing.subscribe());
        let (handler, outcomes) = (Arc::clone(&handler), outcome_sender.clone());
        workers.spawn(async move {
            while let Some((job, input)) = waiting.next(&mut closing).await {
                // Inside the block, so that a panic before the handler's first await is caught too.
                let work = AssertUnwindSafe(async { handler(input).await }).catch_unwind();
                let result = work.await.map_err(|panic| Panicked::new(panic.as_ref()));
                if outcomes.send(Outcome { job, result }).await.is_err() {
                    return; // nobody is left to read it
                }
            }
        });
    }
    let queue = Queue {
        jobs,
        pushed: Arc::default(),
        closing: closed,
    };
    (
        queue,
        Outcomes {
            outcomes,
            closing,
            _workers: workers,
        },
    )
}

/// The jobs that wait for a worker.
struct Jobs<J> {
    receiver: Mutex<mpsc::Receiver<J>>,
    /// How many wait for that lock.
    turns: AtomicUsize,
}

impl<J> Jobs<J> {
    /// The next job, and then the turn of whoever waits for the lock.
    async fn next(&self, closing: &mut watch::Receiver<()>) -> Option<J> {
        // Asked for before the lock is held, under which a worker that has used up its budget would
        // keep the others waiting.
        consume_budget().await;
        let job = unconstrained(self.take(closing)).await;
        if self.turns.load(Ordering::Relaxed) > 0 {
            // That one was woken on this thread, and what was woken last no other thread takes: it
            // would wait here until this worker's handler gives way.
            give_way().await;
        }
        job
    }

    async fn lock(&self) -> MutexGuard<'_, mpsc::Receiver<J>> {
        self.turns.fetch_add(1, Ordering::Relaxed);
        let jobs = self.receiver.lock().await;
        self.turns.fetch_sub(1, Ordering::Relaxed);
        jobs
    }

    /// Waits for a job. The lock is held while waiting, so that one worker waits in `recv` and the
    /// others for the lock, first come, first served; it is free again before the job is worked on.
    async fn take(&self, closing: &mut watch::Receiver<()>) -> Option<J> {
        let mut jobs = self.lock().await;
        // Asked first: with a queue that is never empty the code below would never get to listen.
        if !closing.has_changed().unwrap_or(true) {
            if let Ok(job) = jobs.try_recv() {
                return Some(job); // under load, listening for the close as well would cost
            }
            select! {
                biased; // a queue that has jobs need not listen
                job = jobs.recv() => return job,
                _ = closing.changed() => {}
            }
        }
        jobs.close();
        jobs.recv().await
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

impl<J> Queue<J> {
    /// Adds a job, waiting while the queue is full. Returns the number its outcome will carry.
    ///
    /// # Errors
    ///
    /// [`Closed`], with the job, once the queue is closed or its [`Outcomes`] are dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has queued nothing: the job is dropped with it. To keep the job
    /// when there is no room, use [`try_push`](Self::try_push).
    pub async fn push(&self, job: J) -> Result<u64, Closed<J>> {
        if self.is_closing() {
            return Err(Closed(job));
        }
        match self.jobs.reserve().await {
            Ok(slot) => Ok(self.send(slot, job)),
            Err(_) => Err(Closed(job)),
        }
    }

    /// Adds a job if there is room for it now. Returns the number its outcome will carry.
    ///
    /// # Errors
    ///
    /// [`TryPushError`] with the job.
    pub fn try_push(&self, job: J) -> Result<u64, TryPushError<J>> {
        if self.is_closing() {
            return Err(TryPushError::Closed(job));
        }
        match self.jobs.try_reserve() {
            Ok(slot) => Ok(self.send(slot, job)),
            Err(TrySendError::Full(())) => Err(TryPushError::Full(job)),
            Err(TrySendError::Closed(())) => Err(TryPushError::Closed(job)),
        }
    }

    /// The channel itself is closed a moment later, by a task, and this push may come before that.
    fn is_closing(&self) -> bool {
        self.closing.has_changed().unwrap_or(true)
    }

    fn send(&self, slot: mpsc::Permit<'_, (u64, J)>, job: J) -> u64 {
        let number = self.pushed.fetch_add(1, Ordering::Relaxed);
        slot.send((number, job));
        number
    }
}

impl<J> Clone for Queue<J> {
    fn clone(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
            pushed: Arc::clone(&self.pushed),
            closing: self.closing.clone(),
        }
    }
}

impl<R> Outcomes<R> {
    /// Waits for the next outcome. `None` once the queue has ended and every outcome was read, or the
    /// workers' runtime has shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has taken no outcome: the next call gets it.
    pub async fn next(&mut self) -> Option<Outcome<R>> {
        self.outcomes.recv().await
    }

    /// Refuses all further jobs, those whose `push` waits for room among them. Jobs already in the
    /// queue are done, and their outcomes read with [`next`](Self::next).
    pub fn close(&self) {
        self.closing.send_replace(());
    }
}

impl Panicked {
    fn new(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self {
            message: text.unwrap_or("no message").to_owned(),
        }
    }
}
