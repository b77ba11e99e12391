//! # Concurrent map: buffered and buffer_unordered
//!
//! Each item of a stream needs a call that waits: a lookup, a download. Several should wait at once,
//! in one task, so that they can borrow. `buffered` and `buffer_unordered` do that, but stand still
//! while the loop that reads them awaits something else, and a panic in one call takes the loop with
//! it. Here calls go on [`during`](ConcurrentMap::during) the loop's body, and a panic costs one result.
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
//! cargo add thiserror
//! cargo add tokio --features rt
//! ```
//!
//! ## Watch out
//! - `while let Some(result) = results.next().await { store(result).await }` polls no work while it
//!   stores, as `buffered_standstill` shows. Time limits in the work run out, peers wait, and a body
//!   that needs a lock which the work holds waits for ever, as in `futurelock`. Write
//!   `results.during(store(result)).await`.
//! - In the order of the inputs, results behind a slow one count towards the limit: once they fill
//!   it, nothing new starts until that one ends.
//! - `buffered(0)` and `buffer_unordered(0)` wait for ever: hence the type of the limit.
//! - What a panic left half changed behind a `RefCell` or tokio's `Mutex` is there for the others.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::{poll_fn, ready};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use futures_util::future::Either;
use futures_util::stream::{Fuse, FuturesUnordered};
use futures_util::{FutureExt, Stream, StreamExt};
use thiserror::Error;
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

/// Which input, and how the work for it ended.
type End<T> = (usize, Result<T, Box<dyn Any + Send>>);

/// Calls `work` with each of `inputs` and gives the results, in the given order.
///
/// An input is taken only when there is room: what is under way and what has ended unread are never
/// more than `limit` together. Everything happens in the task that polls. `pin!` inputs that need it.
///
/// A panic of `work` or of its future is the result of its input; one of `inputs` reaches whoever
/// polls. Each input that starts costs a unit of Tokio's cooperative budget, so that work which never
/// waits does not keep the thread from other tasks.
///
/// # Cancel safety
///
/// Dropping the stream drops the work under way and the results that were not read. A `next` of it that
/// is dropped has taken none.
pub fn concurrent_map<J, F: Future>(
    limit: NonZeroUsize,
    order: Order,
    inputs: impl Stream<Item = J> + Unpin,
    mut work: impl FnMut(J) -> F,
) -> ConcurrentMap<impl Stream<Item = impl Future<Output = End<F::Output>>> + Unpin, F::Output> {
    let jobs = inputs.enumerate().map(move |(index, input)| {
        let job = match catch_unwind(AssertUnwindSafe(|| work(input))) {
            // `fuse` drops the future where it ends, so a destructor's panic is caught as well.
            // Combinators, since an async block around a future would double its size.
            Ok(future) => Either::Left(AssertUnwindSafe(future.fuse()).catch_unwind()),
            Err(panic) => Either::Right(ready(Err(panic))),
        };
        job.map(move |result| (index, result))
    });
    ConcurrentMap {
        limit,
        order,
        jobs: jobs.fuse(),
        running: FuturesUnordered::new(),
        started: 0,
        given: 0,
        unread: VecDeque::new(),
    }
}

/// The stream that [`concurrent_map`] returns. `next` may be dropped at any time, and loses nothing.
///
/// Dropping it drops the work at the awaits that it has reached, and takes no further input.
#[must_use = "streams do nothing unless polled"]
pub struct ConcurrentMap<S: Stream, T> {
    limit: NonZeroUsize,
    order: Order,
    jobs: Fuse<S>,
    running: FuturesUnordered<S::Item>,
    started: usize,
    given: usize,
    /// The next results to give. In the order of the inputs there are gaps, where work goes on.
    unread: VecDeque<Option<Result<T, Panicked>>>,
}

impl<S: Stream<Item: Future<Output = End<T>>> + Unpin, T> ConcurrentMap<S, T> {
    /// Awaits the body of the loop that reads the results, while the work goes on. What ends
    /// meanwhile is kept, within the limit, and given by the next calls of `next`.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has dropped the body where it was; no result is lost.
    pub async fn during<B: Future>(&mut self, body: B) -> B::Output {
        let mut body = pin!(body);
        let mut body_first = false;
        poll_fn(|cx| {
            // In turns, or one might use up the budget of every turn before the other is polled.
            body_first = !body_first;
            if body_first && let Poll::Ready(output) = body.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            while let Poll::Ready(Some((ahead, result))) = self.poll_end(cx) {
                self.keep(ahead, result);
            }
            if body_first {
                return Poll::Pending;
            }
            body.as_mut().poll(cx)
        })
        .await
    }

    /// Starts what there is room for, then looks for an end: how many results come before its own,
    /// and that. `None`: nothing is under way.
    #[inline(always)] // it is called from two places, and would cost 5 % of everything
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Result<T, Panicked>)>> {
        while self.started - self.given < self.limit.get() {
            let budget = ready!(coop::poll_proceed(cx));
            match self.jobs.poll_next_unpin(cx) {
                Poll::Ready(Some(job)) => self.running.push(job),
                Poll::Ready(None) | Poll::Pending => break,
            }
            self.started += 1;
            budget.made_progress();
        }
        let Some((index, result)) = ready!(self.running.poll_next_unpin(cx)) else {
            return Poll::Ready(None);
        };
        let ahead = match self.order {
            Order::Inputs => index - self.given,
            Order::Ends => self.unread.len(),
        };
        let result = result.map_err(|panic| Panicked {
            index,
            message: message(panic.as_ref()),
        });
        Poll::Ready(Some((ahead, result)))
    }

    fn keep(&mut self, ahead: usize, result: Result<T, Panicked>) {
        // Below the limit, since all that come before count towards it.
        if self.unread.len() <= ahead {
            self.unread.resize_with(ahead + 1, || None);
        }
        if let Some(place) = self.unread.get_mut(ahead) {
            *place = Some(result);
        }
    }
}

impl<S: Stream<Item: Future<Output = End<T>>> + Unpin, T> Stream for ConcurrentMap<S, T> {
    type Item = Result<T, Panicked>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut next = this.unread.front_mut().and_then(Option::take);
        while next.is_none() {
            match ready!(this.poll_end(cx)) {
                Some((0, result)) => next = Some(result),
                Some((ahead, result)) => this.keep(ahead, result),
                None if this.jobs.is_done() => return Poll::Ready(None),
                None => return Poll::Pending,
            }
        }
        this.unread.pop_front();
        this.given += 1;
        Poll::Ready(next)
    }
}

impl<S: Stream + Unpin, T> Unpin for ConcurrentMap<S, T> {} // results are not pinned

/// By hand, since futures and closures do not implement `Debug`.
impl<S: Stream, T> fmt::Debug for ConcurrentMap<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrentMap")
            .field("running", &self.running.len())
            .field("unread", &(self.started - self.given - self.running.len()))
            .finish_non_exhaustive()
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
