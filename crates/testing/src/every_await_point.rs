//! # Every await point: drop a future wherever it can stop
//!
//! "This function is cancel safe" is a claim about every place where it can be dropped: a timeout,
//! a lost `select!` branch or an aborted task may stop it at any `.await`. This harness stops it at
//! each of them in turn, twice, and checks after each that what must hold still holds.
//!
//! Once begun, a future can only be dropped where it is suspended, and in a test most awaits are
//! ready at once. So the harness rations tokio's cooperative budget: none for the first poll, then a
//! single unit. Each tokio operation suspends before it is done, exactly as it may in production
//! when a busy task has used its budget up. Awaits that "never wait" are tried like all others.
//!
//! ## Use it when
//! - a function's documentation says what is lost when its future is dropped: this is the proof;
//! - a future of yours goes into `select!`, `timeout` or a task that somebody aborts.
//!
//! ## Use something else when
//! - the question is what other threads do in between: `explore_interleavings`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt,time
//! ```
//! It belongs in your tests: `cargo add --dev` and a file in `tests/` serve as well.
//!
//! ## Watch out
//! - A test that finds no await point proves nothing: assert the number that is returned.
//! - A point is told by its number, not by its line: stable Rust has no name for where a future is
//!   suspended. Let the operation note its steps in the state, and the check put the last of them
//!   into its message.
//! - Only what takes part in the budget suspends on demand: sending, receiving, locks, timers and
//!   join handles of tokio do. `Notify`, `Barrier`, `mpsc::Sender::closed` and futures from elsewhere
//!   are dropped only where they really wait.
//! - An operation that chooses at random, as `select!` without `biased` does, takes another way each
//!   time. A round that ends before its await point is not counted, and proves nothing about it.
//! - Time must be paused (`start_paused = true`), or every round waits for real.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use thiserror::Error;
use tokio::task::{coop, yield_now};
use tokio::time::timeout;

/// Where a future was dropped. Suspensions are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// As soon as it suspended: what it waits for has not happened.
    Suspended(usize),
    /// After it was woken from that suspension and before it was polled again: what it waited for
    /// has happened, if it waited for more than budget, and may already have been handed to it.
    Woken(usize),
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Suspended(point) => write!(f, "await point {point}, as it suspended"),
            Self::Woken(point) => write!(f, "await point {point}, once it was woken"),
        }
    }
}

/// How the operation ended in the round that is being checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The harness dropped it.
    Dropped(Cut),
    /// It ran to its end and returned this.
    Completed(T),
}

/// What the harness found wrong.
#[derive(Debug, Error)]
pub enum AwaitPointError {
    /// The check panicked after the operation was dropped at `cut`, or had completed (`None`).
    #[error("{}: {message}", match cut {
        Some(cut) => format!("dropped at {cut}"),
        None => "ran to its end".to_owned(),
    })]
    Broken {
        /// Where the operation was dropped.
        cut: Option<Cut>,
        /// The panic's message.
        message: String,
    },
    /// A round was still not done. The operation must be able to end, or there is no last await
    /// point; a setup or a check that waits for ever has found something that was left open.
    #[error("{phase} still running after {suspensions} suspensions and {limit:?}{}", match cut {
        Some(cut) => format!(", in the round dropped at {cut}"),
        None => String::new(),
    })]
    Stuck {
        /// What was running: `"setup"`, `"operation"` or `"check"`.
        phase: &'static str,
        /// Where the operation was to be dropped in this round; `None` in the whole one.
        cut: Option<Cut>,
        /// How often the operation had suspended.
        suspensions: usize,
        /// The time it was given.
        limit: Duration,
    },
    /// The harness runs without a budget, so operations that are ready would not suspend.
    #[error(
        "no cooperative budget here: await the harness in #[tokio::test] or a task, outside of unconstrained()"
    )]
    NoBudget,
}

/// An operation that suspends this often is taken to never end.
const MAX_SUSPENSIONS: usize = 10_000;

/// Runs `operation` once to its end, then again for each of its await points, dropped there; calls
/// `check` after each of these rounds. Returns at how many await points it was really dropped, each
/// in both ways.
///
/// Each round starts from a state of its own, made by `setup`. `check` gets that state after the
/// operation's future is gone, and panics (`assert!`) when something that must hold does not.
/// `limit` bounds each of the three, on the runtime's clock. A round that ends before its await
/// point comes is checked as completed, and not counted.
///
/// # Errors
///
/// [`AwaitPointError::Broken`] with the await point and the message if `check` panicked,
/// [`AwaitPointError::Stuck`] if something did not end within `limit`, or the operation within
/// 10,000 suspensions, [`AwaitPointError::NoBudget`] if there is no budget to ration.
///
/// # Panics
///
/// If `setup` or `operation` does, or the drop of the operation's future.
///
/// # Cancel safety
///
/// Dropping it drops the round under way, state included, and starts no other.
pub async fn every_await_point<S, T>(
    limit: Duration,
    setup: impl AsyncFn() -> S,
    operation: impl AsyncFn(&mut S) -> T,
    check: impl AsyncFn(S, Outcome<T>),
) -> Result<usize, AwaitPointError> {
    let round = async |cut: Option<Cut>| {
        let stuck = |phase, suspensions| AwaitPointError::Stuck {
            phase,
            cut,
            suspensions,
            limit,
        };
        let mut state = timeout(limit, setup())
            .await
            .map_err(|_| stuck("setup", 0))?;
        let (outcome, suspensions) = drive(operation(&mut state), cut, limit).await?;
        let reached = matches!(outcome, Outcome::Dropped(_));
        // What is left of the budget is next to nothing: a check that only looks needs a new one.
        yield_now().await;
        let checked = timeout(limit, caught(check(state, outcome))).await;
        let checked = checked.map_err(|_| stuck("check", suspensions))?;
        let cut = cut.filter(|_| reached);
        checked.map_err(|message| AwaitPointError::Broken { cut, message })?;
        Ok((suspensions, reached))
    };
    let (await_points, _) = round(None).await?;
    let mut dropped_at = 0;
    for point in 1..=await_points {
        let (_, suspended) = round(Some(Cut::Suspended(point))).await?;
        let (_, woken) = round(Some(Cut::Woken(point))).await?;
        dropped_at += usize::from(suspended && woken);
    }
    Ok(dropped_at)
}

/// Polls `operation` until it completes or `cut` is reached, and drops it. Returns how it ended and
/// how often it had suspended.
async fn drive<T>(
    operation: impl Future<Output = T>,
    cut: Option<Cut>,
    limit: Duration,
) -> Result<(Outcome<T>, usize), AwaitPointError> {
    let mut operation = pin!(operation);
    let mut begun = false;
    let mut suspensions = 0;
    let wake_up = Arc::new(WakeUp::default());
    let waker = Waker::from(Arc::clone(&wake_up));
    let stuck = |suspensions| AwaitPointError::Stuck {
        phase: "operation",
        cut,
        suspensions,
        limit,
    };
    let dropped_at = |cut| Poll::Ready(Ok(Outcome::Dropped(cut)));
    let ended = poll_fn(|cx| {
        if let Err(error) = ready!(poll_leave_one_unit(cx)) {
            return Poll::Ready(Err(error));
        }
        wake_up.forward_to(cx.waker());
        // This task is polled for other reasons too, the limit's timer among them. Polling the
        // operation then would make suspensions that are none of its own.
        if suspensions > 0 {
            if !wake_up.happened.swap(false, Ordering::AcqRel) {
                return Poll::Pending;
            }
            if let Some(cut) = cut.filter(|cut| *cut == Cut::Woken(suspensions)) {
                return dropped_at(cut);
            }
        }
        if !begun {
            begun = true;
            // The unit that is left: without it, the very first operation suspends as well.
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        if let Poll::Ready(value) = operation.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Poll::Ready(Ok(Outcome::Completed(value)));
        }
        suspensions += 1;
        if let Some(cut) = cut.filter(|cut| *cut == Cut::Suspended(suspensions)) {
            return dropped_at(cut);
        }
        if suspensions == MAX_SUSPENSIONS {
            return Poll::Ready(Err(stuck(suspensions)));
        }
        Poll::Pending
    });
    let ended = timeout(limit, ended).await;
    let outcome = ended.unwrap_or_else(|_| Err(stuck(suspensions)))?;
    Ok((outcome, suspensions))
}

/// Spends the running task's budget but for one unit. Pending, with the task woken again at once,
/// if less than that is left of this turn; an error if the budget has no end.
fn poll_leave_one_unit(cx: &mut Context<'_>) -> Poll<Result<(), AwaitPointError>> {
    for _ in 0..=u8::MAX {
        let unit = ready!(coop::poll_proceed(cx));
        if !coop::has_budget_remaining() {
            return Poll::Ready(Ok(())); // dropping `unit` gives the last one back
        }
        unit.made_progress();
    }
    Poll::Ready(Err(AwaitPointError::NoBudget))
}

/// Remembers that the operation was woken, and passes the wake-up on to the task that drives it.
#[derive(Default)]
struct WakeUp {
    happened: AtomicBool,
    driver: Mutex<Option<Waker>>,
}

impl WakeUp {
    fn forward_to(&self, waker: &Waker) {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        driver
            .get_or_insert_with(|| waker.clone())
            .clone_from(waker);
    }
}

impl Wake for WakeUp {
    fn wake(self: Arc<Self>) {
        self.happened.store(true, Ordering::Release);
        let driver = self
            .driver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

/// Awaits `check`; a panic in it becomes the error, with the panic's message.
async fn caught(check: impl Future<Output = ()>) -> Result<(), String> {
    let mut check = pin!(check);
    poll_fn(|cx| {
        // A check that panicked is never polled again, so nothing sees what it left half done.
        match catch_unwind(AssertUnwindSafe(|| check.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic_message(panic.as_ref()))),
        }
    })
    .await
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
