//! # Concurrent map: buffered and buffer_unordered
//!
//! Each item of a stream needs a call that waits: a lookup, a download. Several should wait at once,
//! in one task, so that the work can borrow. `buffered` and `buffer_unordered` do that, but only
//! while somebody polls them: as long as the loop's body awaits something else, all calls under way
//! stand still. And a panic in one of them takes the loop with it. This stream keeps its work going
//! [`during`](ConcurrentMap::during) the body, and a panic costs the one result it belongs to.
//!
//! ## Use it when
//! - the work waits most of its time, and borrows from the caller or is not `Send`;
//! - inputs come from a stream, and its producer should be held back when results are not read.
//!
//! ## Use something else when
//! - the work computes: one task runs on one thread. `spawn_batch` uses them all;
//! - jobs come from several tasks, or go on when nobody reads: `work_queue`;
//! - the body may run several times at once: make it part of the work.
//!
//! ## Add to your project
//! ```console
//! cargo add futures-util
//! cargo add pin-project-lite
//! cargo add thiserror
//! cargo add tokio --features macros,rt
//! ```
//!
//! ## Watch out
//! - `while let Some(result) = results.next().await { store(result).await }` polls no work while it
//!   stores. Time limits in the work run out, peers wait, and a body that needs a lock which the
//!   work holds waits for ever. Write `results.during(store(result)).await`.
//! - In the order of the inputs, results behind a slow one count towards the limit: once they fill
//!   it, nothing new starts until that one ends.
//! - Dropping the stream drops its work at the await it has reached. To let it finish, read on.
//! - `buffered(0)` and `buffer_unordered(0)` wait for ever. Here the limit's type rules it out.
//! - What a panic left half changed behind a `RefCell` or tokio's `Mutex` is there for the others.

use std::any::Any;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::stream::{Fuse, FuturesUnordered};
use futures_util::{Stream, StreamExt};
use pin_project_lite::pin_project;
use thiserror::Error;
use tokio::select;
use tokio::task::coop;

/// In which order results come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// That of the inputs.
    Inputs,
    /// As the work ends.
    Ends,
}

/// The work for one input panicked. No other input is affected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the work for input {index} panicked: {message}")]
pub struct Panicked {
    /// Which input, counted from 0.
    pub index: usize,
    /// The panic's message.
    pub message: String,
}

/// Calls `work` with each of `inputs` and gives the results, in the given order.
///
/// An input is taken only when there is room: what is under way and what has ended unread are never
/// more than `limit` together. Everything happens in the task that polls the stream. Pin inputs that
/// are not `Unpin`: `concurrent_map(…, pin!(inputs), …)`.
///
/// A panic of `work` or of its future is the result of its input; one of `inputs` reaches whoever
/// polls. The stream takes part in Tokio's cooperative budget, so that work which never waits does
/// not keep the thread from other tasks.
///
/// Dropping the stream drops the work under way and takes no further input.
pub fn concurrent_map<S, W, F>(
    limit: NonZeroUsize,
    order: Order,
    inputs: S,
    work: W,
) -> ConcurrentMap<S, W, F>
where
    S: Stream + Unpin,
    W: FnMut(S::Item) -> F,
    F: Future,
{
    ConcurrentMap {
        limit,
        order,
        inputs: inputs.fuse(),
        work,
        started: 0,
        running: FuturesUnordered::new(),
        given: 0,
        unread: 0,
        ended: VecDeque::new(),
    }
}

/// The stream that [`concurrent_map`] returns. Polled after its end, it says `None` again.
#[must_use = "streams do nothing unless polled"]
pub struct ConcurrentMap<S, W, F: Future> {
    limit: NonZeroUsize,
    order: Order,
    inputs: Fuse<S>,
    work: W,
    started: usize,
    running: FuturesUnordered<Job<F>>,
    /// How many results have been given out, which is also the place of the next.
    given: usize,
    unread: usize,
    /// Results by place, from that of the next on. In the order of the inputs there may be gaps.
    ended: VecDeque<Option<Result<F::Output, Panicked>>>,
}

impl<S, W, F> ConcurrentMap<S, W, F>
where
    S: Stream + Unpin,
    W: FnMut(S::Item) -> F,
    F: Future,
{
    /// Awaits the body of the loop that reads the results, while the work goes on. What ends
    /// meanwhile is kept, within the limit, and given by the next calls of `next`.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has dropped the body where it was; no result is lost.
    pub async fn during<B: Future>(&mut self, body: B) -> B::Output {
        let work = poll_fn(|cx| {
            while let Poll::Ready(Some(end)) = self.poll_end(cx) {
                self.keep(end);
            }
            Poll::<Infallible>::Pending
        });
        // Not biased: neither may use up the budget of every turn before the other is polled.
        select! {
            output = body => output,
            never = work => match never {},
        }
    }

    /// Starts what there is room for, then looks for an end. `None`: nothing is under way.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<End<F::Output>>> {
        while self.running.len() + self.unread < self.limit.get() {
            let budget = ready!(coop::poll_proceed(cx));
            let Poll::Ready(Some(input)) = self.inputs.poll_next_unpin(cx) else {
                break;
            };
            budget.made_progress();
            let index = self.started;
            self.started += 1;
            match catch_unwind(AssertUnwindSafe(|| (self.work)(input))) {
                Ok(work) => self.running.push(Job {
                    index,
                    work: Some(work),
                }),
                Err(panic) => return Poll::Ready(Some((index, Err(panic)))),
            }
        }
        self.running.poll_next_unpin(cx)
    }

    fn keep(&mut self, (index, result): End<F::Output>) {
        // By their ends there are no gaps, so the next place is that behind the unread ones. By
        // inputs no place lies beyond the limit: all between it and the next count towards it.
        let ahead = match self.order {
            Order::Inputs => index - self.given,
            Order::Ends => self.unread,
        };
        if self.ended.len() <= ahead {
            self.ended.resize_with(ahead + 1, || None);
        }
        if let Some(place) = self.ended.get_mut(ahead) {
            *place = Some(result.map_err(|panic| Panicked {
                index,
                message: message(panic.as_ref()),
            }));
            self.unread += 1;
        }
    }

    /// The next result in order, if it is there.
    fn take(&mut self) -> Option<Result<F::Output, Panicked>> {
        let result = self.ended.front_mut()?.take()?;
        self.ended.pop_front();
        self.unread -= 1;
        self.given += 1;
        Some(result)
    }
}

impl<S, W, F> Stream for ConcurrentMap<S, W, F>
where
    S: Stream + Unpin,
    W: FnMut(S::Item) -> F,
    F: Future,
{
    type Item = Result<F::Output, Panicked>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(result) = this.take() {
                return Poll::Ready(Some(result));
            }
            match this.poll_end(cx) {
                Poll::Ready(Some(end)) => this.keep(end),
                Poll::Ready(None) if this.inputs.is_done() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Nothing in it is pinned but the work, which `FuturesUnordered` keeps on the heap.
impl<S, W, F: Future> Unpin for ConcurrentMap<S, W, F> {}

/// By hand, so that work and results need not implement `Debug`: futures and closures do not.
impl<S, W, F: Future> fmt::Debug for ConcurrentMap<S, W, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrentMap")
            .field("limit", &self.limit)
            .field("order", &self.order)
            .field("running", &self.running.len())
            .field("unread", &self.unread)
            .finish_non_exhaustive()
    }
}

/// Which input, and how the work for it ended.
type End<T> = (usize, Result<T, Box<dyn Any + Send>>);

pin_project! {
    struct Job<F> {
        index: usize,
        #[pin]
        work: Option<F>,
    }
}

impl<F: Future> Future for Job<F> {
    type Output = End<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut job = self.project();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let work = job.work.as_mut().as_pin_mut();
            let polled = work.map_or(Poll::Pending, |work| work.poll(cx));
            if polled.is_ready() {
                job.work.set(None); // here, where a panic of its destructor is caught as well
            }
            polled
        }));
        match polled {
            Ok(polled) => polled.map(|value| (*job.index, Ok(value))),
            Err(panic) => {
                // One that panics when dropped too has told enough.
                drop(catch_unwind(AssertUnwindSafe(|| job.work.set(None))));
                Poll::Ready((*job.index, Err(panic)))
            }
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
