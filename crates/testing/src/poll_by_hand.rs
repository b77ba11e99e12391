//! # Poll by hand: tokio_test::task, and a task for each poll
//!
//! A future written by hand has one duty that no type checks: if it returns `Pending`, it must wake
//! the task that polled it last, once there is something to see. One that forgets this hangs now and
//! then, in production, in `select!`. Here a future is polled by hand, by another task each time, and
//! each wake-up is accounted for.
//!
//! ## Use it when
//! - you write a `Future`, a combinator or anything that stores a `Waker`.
//!
//! ## Use something else when
//! - one poll is to be looked at: `tokio_test::task::spawn`, `assert_pending!`, `assert_ready!`;
//! - the event comes from another thread, between a look at the state and the storing of the waker:
//!   `explore_interleavings`;
//! - the future is an `async fn`, and the question is what its drop loses: `every_await_point`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt
//! cargo add tokio-test
//! ```
//! It belongs in your tests: `cargo add --dev` and a file in `tests/` serve as well.
//!
//! ## Watch out
//! - `tokio_test::task::Spawn` polls with the same waker each time: a future that keeps the first one
//!   passes.
//! - `Spawn::is_woken` says whether, not how often, and the next poll forgets it. Ask before you poll.
//! - `Spawn` does not count polls, and `poll_until_idle` takes 150 of them for a loop without end.
//! - To await a `Spawn` polls its future with the awaiting task's waker, and `is_woken` stays false.
//! - A future that ended must not be polled again: an `async fn` panics.

use std::pin::Pin;
use std::task::Poll;

use thiserror::Error;
use tokio::task::coop::{Unconstrained, unconstrained};
use tokio_test::task::{Spawn, spawn};

/// What it took in the plainest case: one task polls, the event comes, the task is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wakeups {
    /// Polls until it was ready. Two, if it never wakes its task for nothing.
    pub polls: usize,
    /// Wake-ups that came before these polls. One, likewise.
    pub wakeups: usize,
    /// Wakers that something still kept when the future had been dropped while it waited. None, if it
    /// takes its waker back: others keep a finished task in memory, and wake it for nothing.
    pub left_by_drop: usize,
}

/// What is wrong with the future. Polls, and the tasks that made them, are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WakeFault {
    /// It was ready before its event: it takes a poll for it, or never waits.
    #[error("ready at poll {poll}, and the event had not come")]
    TooEarly {
        /// Which poll.
        poll: usize,
    },
    /// It waits for ever: its event came, it is not ready, and nothing was woken.
    #[error("the event came, the future was pending at poll {polls}, and no task was woken")]
    LostWakeup {
        /// The last poll.
        polls: usize,
    },
    /// It waits for ever: its event woke a task that has passed it on.
    #[error("the event woke task {woken}, and not task {last}, which was the last to poll")]
    StaleWaker {
        /// The task that was woken.
        woken: usize,
        /// The task that should have been.
        last: usize,
    },
    /// It wakes its own task in every poll: a processor is busy while it waits.
    #[error("pending and woken by itself, {polls} polls in a row")]
    BusyLoop {
        /// How many.
        polls: usize,
    },
}

/// A future that wakes its own task this often in a row is taken to never stop.
const MAX_POLLS: usize = 100;

/// Polls futures made by `setup` by hand, around the `event` that each waits for, and checks that it
/// is the last task that polled which is woken, and not before.
///
/// `setup` makes a future, and what its event needs; `event` makes it happen, and returns when the
/// future should have been woken. It comes after one poll, after three by as many tasks, after two by
/// one task, before the first, and after the future was dropped.
///
/// # Errors
///
/// [`WakeFault`], the first that was found.
///
/// # Panics
///
/// If `setup`, the future or `event` does: of the last, look at the case where the future is gone.
///
/// # Cancel safety
///
/// Dropping it drops the future that it polls, and makes no other.
pub async fn check_wakeups<F: Future, E>(
    setup: impl Fn() -> (F, E),
    event: impl AsyncFn(E),
) -> Result<Wakeups, WakeFault> {
    let mut counted = Wakeups {
        polls: 0,
        wakeups: 0,
        left_by_drop: 0,
    };
    for (polls, moves) in [(1, true), (3, true), (2, false), (0, true)] {
        let (future, cause) = setup();
        let mut polled = Polled::new(future);
        for _ in 0..polls {
            polled.wait(moves)?;
        }
        event(cause).await;
        polled.finish()?;
        if polls == 1 {
            (counted.polls, counted.wakeups) = (polled.polls, polled.wakeups);
        }
    }
    let (future, cause) = setup();
    let mut polled = Polled::new(future);
    polled.wait(true)?;
    let Polled { future, tasks, .. } = polled;
    drop(future);
    // Each task keeps one of its own.
    counted.left_by_drop = tasks.iter().map(|task| task.waker_ref_count() - 1).sum();
    event(cause).await;
    Ok(counted)
}

/// A future that is polled by hand. It is not rationed: out of budget, it would wake itself.
struct Polled<F> {
    future: Pin<Box<Unconstrained<F>>>,
    /// Those that have polled it, in order. `tokio_test` makes tasks of futures; here the task is
    /// wanted, and whether it is woken, for a future that moves from one to the next.
    tasks: Vec<Spawn<()>>,
    polls: usize,
    wakeups: usize,
}

impl<F: Future> Polled<F> {
    fn new(future: F) -> Self {
        Self {
            future: Box::pin(unconstrained(future)),
            tasks: Vec::new(),
            polls: 0,
            wakeups: 0,
        }
    }

    /// Polls, by a new task if it `moves`, and by the last one otherwise.
    fn poll(&mut self, moves: bool) -> Poll<F::Output> {
        let last = if moves { None } else { self.tasks.pop() };
        let mut task = last.unwrap_or_else(|| spawn(()));
        self.polls += 1;
        let poll = task.enter(|cx, _| self.future.as_mut().poll(cx));
        self.tasks.push(task);
        poll
    }

    /// Whether the last task that polled is woken.
    fn is_woken(&self) -> bool {
        self.tasks.last().is_some_and(Spawn::is_woken)
    }

    /// Polls until it really waits. That it wakes itself is no fault as long as it ends.
    fn wait(&mut self, mut moves: bool) -> Result<(), WakeFault> {
        for _ in 0..MAX_POLLS {
            if self.poll(moves).is_ready() {
                return Err(WakeFault::TooEarly { poll: self.polls });
            }
            if !self.is_woken() {
                return Ok(());
            }
            self.wakeups += 1;
            moves = false;
        }
        Err(WakeFault::BusyLoop { polls: MAX_POLLS })
    }

    /// Polls until it is ready, as often as it is woken. The event has come.
    fn finish(&mut self) -> Result<(), WakeFault> {
        for _ in 0..MAX_POLLS {
            if !self.tasks.is_empty() {
                self.expect_wakeup()?;
            }
            if self.poll(true).is_ready() {
                return Ok(());
            }
        }
        Err(WakeFault::BusyLoop { polls: MAX_POLLS })
    }

    fn expect_wakeup(&mut self) -> Result<(), WakeFault> {
        if self.is_woken() {
            self.wakeups += 1;
            return Ok(());
        }
        let woken = self.tasks.iter().position(Spawn::is_woken);
        Err(
            woken.map_or(WakeFault::LostWakeup { polls: self.polls }, |index| {
                WakeFault::StaleWaker {
                    woken: index + 1,
                    last: self.tasks.len(),
                }
            }),
        )
    }
}
