//! # Explore interleavings: every order of events, with shuttle
//!
//! A test that starts two threads sees their steps in one order, much the same each time; the order
//! that fails comes once in a million, in production. Under shuttle the threads of a scenario run one
//! step at a time, and a scheduler says whose step is next. This harness runs the scenario in every
//! order there is, or in as many as you like, says how many they were, and hands over the one that
//! failed, to be run again.
//!
//! ## Use it when
//! - code of yours has locks, atomics, condition variables or wakers: a lost wakeup, a lost update or
//!   a deadlock is found, however rare;
//! - a test is flaky and you suspect an order of events: make it a scenario.
//!
//! ## Use something else when
//! - the question is what a dropped future leaves behind: `every_await_point`;
//! - it is about `Relaxed`, `Acquire` or `unsafe`: loom knows what weak memory may do, with five
//!   threads at most. Here every thread sees every write at once;
//! - the order comes from time, a network or several machines: `simulate_network`.
//!
//! ## Add to your project
//! ```console
//! cargo add shuttle
//! cargo add thiserror
//! ```
//! It belongs in your tests: `cargo add --dev` and a file in `tests/` serve as well. The code under
//! test needs shuttle's types, named like those of std. One module of your crate chooses, and
//! `cargo add shuttle --target 'cfg(shuttle)'` is for the library itself:
//! ```
//! mod primitives {
//!     #[cfg(not(shuttle))]
//!     pub use std::{sync, thread};
//!     #[cfg(shuttle)] // RUSTFLAGS="--cfg shuttle" cargo test
//!     pub use shuttle::{sync, thread};
//! }
//! use primitives::sync::{Arc, Mutex};
//! ```
//! Tokio's channels and locks work as they are, each operation a single step. Where others may come
//! in between, put [`switch`] or [`with_switches`].
//!
//! ## Watch out
//! - One order proves nothing, nor does the same one a thousand times: assert
//!   [`Explored::schedules`]. Code that still uses std's types has next to no orders.
//! - A lock of std's that is held at a switch hangs the test for good: all threads are one.
//! - There is no time: what only the end of a `wait_timeout` saves is reported as a deadlock, and
//!   tokio's timers and `tokio::spawn` have no runtime.
//! - A loop that spins until another thread is done never ends in some order, and is reported.
//! - Runs must differ in nothing but the order: no `static` that remembers, no random numbers, no
//!   `select!` without `biased`. Else no schedule fits the next run.
//! - Orders multiply: two or three threads, with a few operations each.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use shuttle::scheduler::{
    DfsScheduler, PctScheduler, RandomScheduler, ReplayScheduler, Schedule, Scheduler, Task, TaskId,
};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use thiserror::Error;

/// Which orders of events to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Each one, once.
    All {
        /// More than this many are an error.
        at_most: NonZeroUsize,
    },
    /// At each step any thread that can go on, with equal odds. The same seed makes the same
    /// choices, unless the environment variable `SHUTTLE_RANDOM_SEED` says otherwise.
    Random {
        /// How often to run the scenario.
        runs: NonZeroUsize,
        /// Where the choices come from.
        seed: u64,
    },
    /// Threads have priorities at random, which change `depth - 1` times in a run: better than
    /// `Random` at what happens only if one thread is left behind for long.
    Pct {
        /// How often to run the scenario.
        runs: NonZeroUsize,
        /// Where the choices come from, as in `Random`.
        seed: u64,
        /// How many events must come in the right order for the bug. Two or three, for most.
        depth: NonZeroUsize,
    },
}

/// What was run, without a failure.
#[must_use = "one order proves nothing: assert how many there were"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explored {
    /// How many different orders of events. With [`Strategy::All`], all that there are.
    pub schedules: usize,
}

/// Why an exploration or a replay did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExploreError {
    /// The scenario panicked, stands still in a deadlock, or went on for more than 10,000 steps.
    #[error("run {run}: {message}\nschedule: {schedule}")]
    Failed {
        /// The panic's message, or shuttle's, which says who waits; with the environment variable
        /// `SHUTTLE_CAPTURE_BACKTRACE` set, also where.
        message: String,
        /// Whose turn it was at each step, for [`replay`]. 0 is the scenario itself; its threads
        /// and tasks have numbers as they start.
        schedule: String,
        /// How many runs it took, this one included.
        run: usize,
    },
    /// There are more orders than this. Those that were run did not fail.
    #[error("more than {at_most} schedules: make the scenario smaller, or choose some at random")]
    TooMany {
        /// How many were run.
        at_most: NonZeroUsize,
    },
    /// The scenario did not follow the schedule to its end: it is not the code that the schedule
    /// is from, or not only the order decides what it does.
    #[error("the scenario leaves the schedule after {steps} steps")]
    Diverged {
        /// How many steps it followed.
        steps: usize,
    },
}

/// A run with more steps than this is taken to never end.
const MAX_STEPS: usize = 10_000;

/// Runs `scenario` again and again in the calling thread, each time in another order of events.
///
/// The threads and tasks are those that it starts with `shuttle::thread` and `shuttle::future`. Each
/// run should make all that it uses. A failed run leaks what its threads held.
///
/// # Errors
///
/// [`ExploreError::Failed`] at the first run that fails; [`ExploreError::TooMany`].
///
/// # Panics
///
/// If the environment variable `SHUTTLE_RANDOM_SEED` is set and is no number.
pub fn explore(
    strategy: Strategy,
    scenario: impl Fn() + Send + Sync + 'static,
) -> Result<Explored, ExploreError> {
    let all = NonZeroUsize::MAX;
    let (at_most, scheduler): (_, Box<dyn Scheduler + Send>) = match strategy {
        Strategy::All { at_most } => (at_most, Box::new(DfsScheduler::new(None, false))),
        Strategy::Random { runs, seed } => {
            let random = RandomScheduler::new_from_seed(seed, runs.get());
            (all, Box::new(random))
        }
        Strategy::Pct { runs, seed, depth } => {
            let pct = PctScheduler::new_from_seed(seed, depth.get(), runs.get());
            (all, Box::new(pct))
        }
    };
    let record = run(scheduler, at_most, scenario)?;
    if record.cut_off {
        return Err(ExploreError::TooMany { at_most });
    }
    let schedules = record.different.len();
    Ok(Explored { schedules })
}

/// Runs `scenario` once, in the order of `schedule`.
///
/// # Errors
///
/// [`ExploreError::Failed`] if it fails, [`ExploreError::Diverged`] if the schedule does not fit.
pub fn replay(
    schedule: &str,
    scenario: impl Fn() + Send + Sync + 'static,
) -> Result<(), ExploreError> {
    let turns: Result<Vec<usize>, _> = schedule.split_whitespace().map(str::parse).collect();
    let turns = turns.map_err(|_| ExploreError::Diverged { steps: 0 })?;
    let steps = Schedule::new_from_task_ids(0, turns.iter().copied());
    let mut scheduler = ReplayScheduler::new_from_schedule(steps);
    scheduler.set_allow_incomplete(); // it stops where it would panic
    let record = run(Box::new(scheduler), NonZeroUsize::MIN, scenario)?;
    if record.cut_off || record.turns != turns {
        let steps = record.turns.len();
        return Err(ExploreError::Diverged { steps });
    }
    Ok(())
}

/// Lets other threads run here. Put it around what shuttle does not know, as an operation of
/// tokio's.
///
/// # Panics
///
/// If called outside of a scenario.
pub fn switch() {
    // There is no time. `yield_now` would also wake this thread, and so hide a lost wakeup.
    shuttle::thread::sleep(Duration::ZERO);
}

/// Awaits `work`, and lets other threads run before and after each of its polls. What happened as it
/// was made came before that, as with `Notify::notified`: put a [`switch`] before it.
///
/// # Panics
///
/// If polled outside of a scenario.
///
/// # Cancel safety
///
/// Dropped before it is done, it drops `work` where it stands.
pub async fn with_switches<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        switch();
        let poll = work.as_mut().poll(cx);
        switch();
        poll
    })
    .await
}

fn run(
    scheduler: Box<dyn Scheduler + Send>,
    at_most: NonZeroUsize,
    scenario: impl Fn() + Send + Sync + 'static,
) -> Result<Record, ExploreError> {
    let record = Rc::new(RefCell::new(Record::default()));
    let recorder = Recorder {
        scheduler,
        at_most,
        record: Rc::clone(&record),
    };
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None; // the error has it
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    config.stack_size = 256 * 1024; // shuttle's 60 KiB are soon full in a debug build
    let runner = Runner::new(recorder, config);
    let ended = catch_unwind(AssertUnwindSafe(|| runner.run(scenario)));
    let record = record.take();
    match ended {
        Ok(_) => Ok(record),
        Err(panic) => {
            let turns: Vec<_> = record.turns.iter().map(ToString::to_string).collect();
            Err(ExploreError::Failed {
                message: message(panic.as_ref()),
                schedule: turns.join(" "),
                run: record.runs,
            })
        }
    }
}

/// What the scheduler chose.
#[derive(Default)]
struct Record {
    runs: usize,
    /// Whose turn it was at each step of the latest run.
    turns: Vec<usize>,
    /// A hash for each order that was run.
    different: HashSet<u64>,
    /// Whether there was more to run.
    cut_off: bool,
}

/// Passes on what another scheduler chooses, and writes it down.
struct Recorder {
    scheduler: Box<dyn Scheduler + Send>,
    at_most: NonZeroUsize,
    record: Rc<RefCell<Record>>,
}

impl Scheduler for Recorder {
    fn new_execution(&mut self) -> Option<Schedule> {
        let mut record = self.record.borrow_mut();
        if record.runs > 0 {
            let ended = record.different.hasher().hash_one(&record.turns);
            record.different.insert(ended);
        }
        let next = self.scheduler.new_execution()?;
        if record.runs == self.at_most.get() {
            record.cut_off = true;
            return None;
        }
        record.runs += 1;
        record.turns.clear();
        Some(next)
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let next = self.scheduler.next_task(runnable, current, is_yielding);
        let mut record = self.record.borrow_mut();
        match next {
            Some(task) => record.turns.push(task.into()),
            None => record.cut_off = true,
        }
        next
    }

    fn next_u64(&mut self) -> u64 {
        self.scheduler.next_u64()
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
