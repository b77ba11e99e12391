//! # Fan out, fan in: a stream through a limited number of tasks
//!
//! Inputs come as a stream: the lines of a file, the messages of a channel, the pages of an API. A
//! limited number of tasks work on them on all threads, and the results are a stream again, as they
//! come or in the order of the inputs. A reader that is slow slows the workers down and they the
//! inputs; a reader that leaves stops them.
//!
//! ## Use it when
//! - the work for an input is worth another thread, and one task cannot do it all;
//! - there are more inputs than fit into memory, or their end is not known.
//!
//! ## Use something else when
//! - the work only waits: `concurrent_map` does it in one task, without `Send` and `'static`;
//! - jobs come from several tasks that outlive each other: `work_queue`;
//! - all inputs are at hand, and so may be all results: `spawn_batch`, or `batch` if it may fail;
//! - a job computes for more than about 100 µs between awaits: `cpu_offload`.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add thiserror
//! cargo add tokio --features rt,sync
//! ```
//!
//! ## Watch out
//! - `inputs.map(tokio::spawn).buffer_unordered(n)` has the same limit, but its tasks are detached when
//!   it is dropped, and none starts while the reader is busy with a result.
//! - Dropping it loses what was taken and not read: up to `workers + buffer` inputs. To lose none, end
//!   the inputs and read to the end.
//! - In the inputs' order, one that is slow holds back those behind it: once `workers + buffer - 1` of
//!   them wait, all but its worker are idle. A larger buffer lets them run on.
//! - Dropping it stops a worker at its next await. **Code that never awaits runs to its end.**
//! - It has no opinion about errors: a result that is an `Err` is a result. Leave the loop at the first
//!   and drop the stream, and the rest is stopped.

use std::any::Any;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::{FutureExt, Stream, StreamExt};
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::task::coop::{consume_budget, unconstrained};

/// How many inputs may be worked on, and how many results may wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Inputs worked on at once, each in a task.
    pub workers: NonZeroUsize,
    /// Results waiting to be read while all workers go on. No more than `workers + buffer` inputs have
    /// been taken and their results not yet read.
    pub buffer: usize,
}

/// In which order the results come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Each as soon as it is there.
    AsFinished,
    /// That of the inputs.
    AsGiven,
}

/// Why there is no result. Inputs are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// The work for this input panicked. No other input is affected.
    #[error("the work for input {input} panicked: {message}")]
    Panicked {
        /// Which input.
        input: u64,
        /// The panic's message.
        message: String,
    },
    /// The stream of inputs panicked instead of giving this input. There are no more.
    #[error("the inputs ended in a panic at {input}: {message}")]
    InputsPanicked {
        /// Which input.
        input: u64,
        /// The panic's message.
        message: String,
    },
    /// The workers' runtime shut down before all inputs were done.
    #[error("the runtime shut down before all inputs were done")]
    CutOff,
}

/// The stream of results. It ends once the inputs have ended and every result was read.
///
/// It owns the workers: **dropping it stops them at their next await, and drops the inputs**. Its
/// `next` loses nothing when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it stops the workers"]
pub struct FanOut<T> {
    ends: mpsc::Receiver<(u64, Result<T, Failure>)>,
    order: Order,
    /// Those that came before their turn, from the one that is next.
    early: VecDeque<Option<Result<T, Failure>>>,
    /// How many were passed on.
    passed: u64,
    counts: Arc<Counts>,
    _workers: JoinSet<()>,
}

#[derive(Debug)]
struct Counts {
    /// A permit for each input that may be taken. A result that is read gives one back.
    room: Semaphore,
    /// How many inputs there were, once that is known.
    total: AtomicU64,
}

/// Starts tasks that take an input each, call `work`, and take the next when it is done.
///
/// They start at once, and take the first `workers + buffer` inputs whether or not the results are
/// read. There are as many tasks as `limits.workers`, or as inputs, where the stream knows its length.
///
/// # Panics
///
/// If called outside of a Tokio runtime.
pub fn fan_out<S, T, F>(
    limits: Limits,
    order: Order,
    inputs: S,
    work: impl Fn(S::Item) -> F + Send + Sync + 'static,
) -> FanOut<T>
where
    S: Stream<Item: Send> + Send + 'static,
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let most = limits.workers.get().saturating_add(limits.buffer);
    let most = most.min(Semaphore::MAX_PERMITS); // more would panic
    let (sender, ends) = mpsc::channel(most);
    let counts = Arc::new(Counts {
        room: Semaphore::new(most),
        total: AtomicU64::new(u64::MAX),
    });
    let workers = inputs.size_hint().1.unwrap_or(usize::MAX).max(1);
    let shared = Arc::new(Shared {
        source: Mutex::new((Some(Box::pin(inputs)), 0)),
        waiting: AtomicUsize::new(0),
        counts: Arc::clone(&counts),
        work,
    });
    let worker = |_| work_off(sender.clone(), Arc::clone(&shared));
    FanOut {
        ends,
        order,
        early: VecDeque::new(),
        passed: 0,
        counts,
        _workers: (0..workers.min(limits.workers.get())).map(worker).collect(),
    }
}

impl<T> Stream for FanOut<T> {
    type Item = Result<T, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let end = loop {
            if let Some(Some(_)) = this.early.front() {
                break this.early.pop_front().flatten();
            }
            match ready!(this.ends.poll_recv(cx)) {
                Some((_, end)) if this.order == Order::AsFinished => break Some(end),
                Some((number, end)) => {
                    // Less than the channel's capacity: the room for more has not been given back.
                    let place = usize::try_from(number - this.passed).unwrap_or(usize::MAX);
                    if this.early.len() <= place {
                        this.early.resize_with(place + 1, || None);
                    }
                    if let Some(free) = this.early.get_mut(place) {
                        *free = Some(end);
                    }
                }
                None => {
                    break this
                        .early
                        .pop_front()
                        .map(|end| end.unwrap_or(Err(Failure::CutOff)));
                }
            }
        };
        if end.is_some() {
            this.passed += 1;
            this.counts.room.add_permits(1);
            return Poll::Ready(end);
        }
        // The workers are gone. With inputs left, that was none of their doing; it is told once.
        let total = this.counts.total.load(Ordering::Acquire);
        let is_whole = this.passed == total;
        this.passed = total;
        Poll::Ready((!is_whole).then_some(Err(Failure::CutOff)))
    }
}

/// Nothing in it is pinned.
impl<T> Unpin for FanOut<T> {}

/// What the workers share.
struct Shared<S, W> {
    /// The inputs, dropped at their end, and how many were taken.
    source: Mutex<(Option<Pin<Box<S>>>, u64)>,
    /// How many workers wait for that lock.
    waiting: AtomicUsize,
    counts: Arc<Counts>,
    work: W,
}

async fn work_off<S, T, W, F>(
    ends: mpsc::Sender<(u64, Result<T, Failure>)>,
    shared: Arc<Shared<S, W>>, // dropped before the sender: at the stream's end all is gone
) where
    S: Stream<Item: Send> + Send,
    W: Fn(S::Item) -> F + Send + Sync,
    F: Future<Output = T> + Send,
{
    while let Some((number, input)) = shared.next().await {
        let end = match input {
            // Inside the block, so that a panic before the first await is caught too.
            Ok(input) => AssertUnwindSafe(async { (shared.work)(input).await })
                .catch_unwind()
                .await
                .map_err(|panic| Failure::Panicked {
                    input: number,
                    message: message(panic.as_ref()),
                }),
            Err(failure) => Err(failure),
        };
        if ends.try_send((number, end)).is_err() {
            return; // the reader is gone; there is always room
        }
    }
}

impl<S: Stream, W> Shared<S, W> {
    /// The next input, and the turn of the worker that waits for the one after it.
    async fn next(&self) -> Option<(u64, Result<S::Item, Failure>)> {
        // Asked for before the lock is held, under which a worker that has used up its budget would
        // keep the others waiting.
        consume_budget().await;
        let next = unconstrained(self.take()).await;
        if self.waiting.load(Ordering::Relaxed) > 0 {
            // That one was woken on this thread, and what was woken last no other thread takes: it
            // would wait here until this worker's work gives way.
            give_way().await;
        }
        next
    }

    /// Takes the next input, with its number. The lock is held while waiting, so that one worker waits
    /// for the input and the others for the lock; it is free again before the input is worked on.
    async fn take(&self) -> Option<(u64, Result<S::Item, Failure>)> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut source = self.source.lock().await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let (inputs, taken) = &mut *source;
        let stream = inputs.as_mut()?;
        // First, so that what is taken has a place to go to.
        let place = self.counts.room.acquire().await.ok()?;
        let next = AssertUnwindSafe(stream.next()).catch_unwind().await;
        let number = *taken;
        if let Ok(Some(input)) = next {
            place.forget();
            *taken += 1;
            return Some((number, Ok(input)));
        }
        *inputs = None;
        let panic = next.err();
        let total = number + u64::from(panic.is_some()); // the panic counts as an input
        self.counts.total.store(total, Ordering::Release);
        let failure = Failure::InputsPanicked {
            input: number,
            message: message(panic?.as_ref()),
        };
        place.forget();
        Some((number, Err(failure)))
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

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
