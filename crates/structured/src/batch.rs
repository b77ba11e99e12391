//! # Batch: a JoinSet that the first error stops
//!
//! A list of inputs, and work for each that may fail. Where one failure makes the rest pointless, the
//! first error or panic should stop all that runs and all that waits, and tell what was done, what was
//! cut off and what never began, with nothing left running. Elsewhere every end is wanted, whatever
//! fails. The caller chooses; the ends come in the inputs' order, or as they happen, with their keys.
//!
//! ## Use it when
//! - all inputs are at hand, or an iterator makes them, and the work for one may fail;
//! - a failure, a deadline or a shutdown should end it all, and everything be accounted for.
//!
//! ## Use something else when
//! - the work cannot fail, or nobody's failure concerns the others: `spawn_batch` is simpler;
//! - the inputs come over time: `fan_out` for a stream, `join_set` for tasks that come and go;
//! - the first success is enough: `first_success`;
//! - the work only waits, and may share the caller's task: `concurrent_map`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt
//! ```
//!
//! ## Watch out
//! - `try_join_all` over `JoinHandle`s stops at the first panic, but not at the first `Err`, which is
//!   an `Ok(Err(…))` to it. What it leaves behind runs on: a dropped handle detaches its task. Shown in
//!   `detached_by_question_mark`.
//! - `JoinSet::abort_all` and the set's drop only ask. Their tasks, and the files and locks they hold,
//!   are there until each has had another turn: await the set, as this recipe does.
//! - `JoinSet::shutdown` does await, and throws away every value and panic that nobody had read.
//! - An abort takes effect at an await. **Code that never awaits delays the return until it ends**, and
//!   a batch that is dropped, by a timeout around it say, leaves it running.
//! - Work is cut off between any two awaits: what must not stay half done belongs in a transaction.
//! - What the work itself spawns is not part of the batch, and runs on: `scope`.

use std::any::Any;
use std::collections::HashMap;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use thiserror::Error;
use tokio::task::{Id, JoinError, JoinSet, coop};

/// What a failure, an error or a panic, does to the rest of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing more begins, and what runs is aborted.
    Stop,
    /// Nothing: the batch goes on to its last input.
    GoOn,
}

/// How a [`batch`] went.
#[derive(Debug)]
#[must_use = "the failures are in it"]
pub struct Report<T, E, I> {
    /// How the work for each input that began ended, in the order of the inputs.
    pub ends: Vec<Result<T, Failure<E>>>,
    /// The index in `ends` of the first error or panic, in time.
    pub first_failure: Option<usize>,
    /// If the batch was stopped before it had seen the last input: those that never began. There may
    /// turn out to be none.
    pub never_began: Option<I>,
}

/// Why the work for an input has no value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure<E> {
    /// It returned this error.
    #[error(transparent)]
    Failed(E),
    /// It panicked.
    #[error("the work panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// It was cut off as the batch was stopped, or the runtime shut down.
    #[error("the work was cut off")]
    CutOff,
}

/// Runs `work` for each of `inputs`, in a task each, no more than `limit` at once, until all are done,
/// one fails and `on_failure` says to stop, or `until` completes: pass a token's `cancelled()`, a
/// `sleep` as the deadline, or `std::future::pending()`. It is asked before each start. A timer
/// may fire only between two turns of the caller's task, and up to 128 inputs begin in one.
///
/// When it returns, none of its tasks runs any more. An input is taken from the iterator when its work
/// can begin. `work` is called in the caller's task, so it may borrow; the future it returns may not.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or if `inputs` panics.
///
/// # Cancel safety
///
/// Dropped before it is done, it takes no further input and aborts its tasks, which stop at their next
/// await; the ends so far are lost. To stop it and keep them, use `until`.
pub async fn batch<I, T, E, F>(
    limit: NonZeroUsize,
    on_failure: OnFailure,
    until: impl Future<Output = ()>,
    inputs: I,
    work: impl FnMut(I::Item) -> F,
) -> Report<T, E, I::IntoIter>
where
    I: IntoIterator,
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut inputs = inputs.into_iter();
    // Grows as inputs end: an iterator's size hint is no promise, and may be enormous.
    let mut ends = Vec::new();
    let mut first_failure = None;
    let store = |index, end: Result<T, Failure<E>>| {
        let flow = match &end {
            Err(_) if on_failure == OnFailure::Stop => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        if first_failure.is_none() && !matches!(end, Ok(_) | Err(Failure::CutOff)) {
            first_failure = Some(index);
        }
        if ends.len() <= index {
            ends.resize_with(index + 1, || Err(Failure::CutOff));
        }
        if let Some(place) = ends.get_mut(index) {
            *place = end;
        }
        flow
    };
    let flow = batch_keyed(limit, until, inputs.by_ref().enumerate(), work, store).await;
    Report {
        ends,
        first_failure,
        never_began: flow.is_break().then_some(inputs),
    }
}

impl<T, E, I> Report<T, E, I> {
    /// The values, in the order of the inputs, if each input has one.
    ///
    /// # Errors
    ///
    /// The first failure, whose index is [`first_failure`](Self::first_failure); or
    /// [`Failure::CutOff`], if nothing failed and the batch was stopped. The other ends are dropped.
    pub fn into_values(mut self) -> Result<Vec<T>, Failure<E>> {
        match self.first_failure {
            Some(first) if first < self.ends.len() => {
                self.ends.swap_remove(first).map(|_| Vec::new())
            }
            None if self.never_began.is_some() => Err(Failure::CutOff),
            _ => self.ends.into_iter().collect(),
        }
    }
}

/// The same as [`batch`], but each end is given to `on_end` with its input's key as soon as it is
/// there, so that memory holds no more than `limit` of them. `on_end` says whether to go on; after a
/// `Break` it is still called once for each input that began.
///
/// Returns whether the batch was stopped. For the inputs that never began, pass `&mut` an iterator.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or if `inputs` or `on_end` panics.
///
/// # Cancel safety
///
/// Dropped before it is done, it takes no further input and aborts its tasks, which stop at their next
/// await; `on_end` is not called for them.
pub async fn batch_keyed<K, J, T, E, F>(
    limit: NonZeroUsize,
    until: impl Future<Output = ()>,
    inputs: impl IntoIterator<Item = (K, J)>,
    mut work: impl FnMut(J) -> F,
    mut on_end: impl FnMut(K, Result<T, Failure<E>>) -> ControlFlow<()>,
) -> ControlFlow<()>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut inputs = inputs.into_iter().fuse();
    let mut tasks = JoinSet::new();
    let mut keys = HashMap::new();
    let mut until = pin!(until);
    let flow = loop {
        let next = poll_fn(|cx| {
            if !coop::has_budget_remaining() {
                // Without it, a stop that is due might not be heard.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Next::Stops); // before another start
            }
            let has_room = tasks.len() < limit.get();
            if has_room && let Some(end) = tasks.try_join_next_with_id() {
                return Poll::Ready(Next::Ended(end)); // before a start, since it may be what stops it
            }
            if has_room && let Some((key, input)) = inputs.next() {
                return Poll::Ready(Next::Begins(key, input));
            }
            let end = tasks.poll_join_next_with_id(cx);
            end.map(|end| end.map_or(Next::AllEnded, Next::Ended))
        })
        .await;
        let begins = matches!(next, Next::Begins(..));
        let end = match next {
            Next::Begins(key, input) => match catch_unwind(AssertUnwindSafe(|| work(input))) {
                Ok(work) => {
                    keys.insert(tasks.spawn(work).id(), key);
                    None
                }
                Err(panic) => Some((key, Err(panicked(panic.as_ref())))),
            },
            Next::Ended(end) => with_key(&mut keys, end),
            Next::AllEnded => break ControlFlow::Continue(()),
            Next::Stops => break ControlFlow::Break(()),
        };
        if let Some((key, end)) = end
            && on_end(key, end).is_break()
        {
            break ControlFlow::Break(());
        }
        if begins {
            // Starting alone never suspends: a large limit would keep the thread from all others.
            coop::consume_budget().await;
        }
    };
    // Each is awaited after the abort: it has then dropped all that it held.
    tasks.abort_all();
    while let Some(end) = tasks.join_next_with_id().await {
        if let Some((key, end)) = with_key(&mut keys, end) {
            _ = on_end(key, end);
        }
    }
    flow
}

/// What a batch does next.
enum Next<K, J, T> {
    Begins(K, J),
    Ended(Result<(Id, T), JoinError>),
    AllEnded,
    Stops,
}

/// The end of a task with its key, which each of them has.
fn with_key<K, T, E>(
    keys: &mut HashMap<Id, K>,
    end: Result<(Id, Result<T, E>), JoinError>,
) -> Option<(K, Result<T, Failure<E>>)> {
    let (id, end) = match end {
        Ok((id, end)) => (id, end.map_err(Failure::Failed)),
        Err(error) => {
            let id = error.id();
            let failure = error.try_into_panic().map(|panic| panicked(panic.as_ref()));
            (id, Err(failure.unwrap_or(Failure::CutOff)))
        }
    };
    Some((keys.remove(&id)?, end))
}

fn panicked<E>(panic: &(dyn Any + Send)) -> Failure<E> {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::Panicked {
        message: text.unwrap_or("no message").to_owned(),
    }
}
