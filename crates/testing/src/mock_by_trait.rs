//! # Mock by trait: a scripted fake, generic or dyn
//!
//! Code that talks to something remote is tested against a fake of it, behind a trait. A fake that
//! answers everything at once hides what matters: what the code does while it waits, when the answer
//! comes late or never, whether it calls once or twice. This fake answers from a script of expected
//! calls, each with its answer and a delay on the runtime's clock, notes when each call came, and
//! fails the test on a call too many, a wrong one or one that never came.
//!
//! ## Use it when
//! - the order, the number or the instants of the calls are what you want to test;
//! - the other side must be late, fail, or not answer at all, at one certain call.
//!
//! It finds wrong, missing, doubled and late calls, and code that cannot bear a slow answer. It cannot
//! find where the real thing differs from your script: run one suite of tests on the fake and on the
//! real one, as `store` does. How to write the trait so that its futures are `Send`, or so that it can
//! be `dyn`, is in `store` and `dyn_store`; this serves both.
//!
//! ## Use something else when
//! - the code only needs something that works: a small real one in memory, as in `store`;
//! - the trait has many methods, and writing the fake is a burden: `mockall` generates one;
//! - the bytes on the wire are the point: `mock_io`.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features rt,time
//! ```
//! It belongs in your tests: `cargo add --dev` and a file in `tests/` serve as well.
//!
//! ## Watch out
//! - A fake that never suspends hides races around its await: nothing else gets to run there.
//!   [`Method::call`] suspends at least once, whatever its delay.
//! - An unexpected call panics in the task that made it, and there the panic may go unseen. The
//!   [`Script`] remembers it and fails when it is dropped. Keep it in the test: the panic of a drop in
//!   a task would go unseen too.
//! - A test that ends before its tasks do finds calls missing that were still to come.
//! - Pause the clock (`start_paused = true`, with tokio's feature `test-util`), or the delays are real.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::pending;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

/// The calls that are expected of one or several fakes, and those that came.
///
/// Dropping it panics if [`finish`](Self::finish) would have been an error, unless the thread is
/// panicking already.
#[derive(Debug)]
pub struct Script(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    started: Instant,
    in_order: bool,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// How many calls were ever expected, of all methods.
    numbered: u64,
    /// Those that have not come, as text, by their number.
    open: BTreeMap<u64, String>,
    came: Vec<(Duration, String)>,
    unexpected: Option<ScriptError>,
    /// The verdict was given.
    is_over: bool,
}

/// How the calls differ from the script.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScriptError {
    /// A call came that was not expected, or not yet. This is the first such.
    #[error("unexpected call: {call}; expected: {}", list(expected))]
    Unexpected {
        /// The call.
        call: String,
        /// What could have come instead.
        expected: Vec<String>,
    },
    /// These calls have not come.
    #[error("calls that never came: {}", list(.0))]
    Missing(Vec<String>),
}

impl Script {
    /// Calls must come in the order in which they are written down, over all methods.
    #[must_use]
    pub fn in_order() -> Self {
        Self::new(true)
    }

    /// Calls may come in any order.
    #[must_use]
    pub fn in_any_order() -> Self {
        Self::new(false)
    }

    fn new(in_order: bool) -> Self {
        Self(Arc::new(Shared {
            started: Instant::now(),
            in_order,
            progress: Mutex::default(),
        }))
    }

    /// A method of a fake: `C` is a tuple of its arguments, or the only one, `R` what it returns.
    #[must_use]
    pub fn method<C, R>(&self, name: &'static str) -> Method<C, R> {
        Method {
            name,
            expected: Mutex::default(),
            script: Arc::clone(&self.0),
        }
    }

    /// The calls that came so far, and when, since the script was made.
    #[must_use]
    pub fn calls(&self) -> Vec<(Duration, String)> {
        lock(&self.0.progress).came.clone()
    }

    /// Ends the script. Calls that come later panic.
    ///
    /// # Errors
    ///
    /// [`ScriptError::Unexpected`] if a call was, [`ScriptError::Missing`] if some never came.
    pub fn finish(self) -> Result<(), ScriptError> {
        self.verdict()
    }

    /// What it finds, it takes away, so that a drop that follows has nothing to say.
    fn verdict(&self) -> Result<(), ScriptError> {
        let mut progress = lock(&self.0.progress);
        progress.is_over = true;
        let open = mem::take(&mut progress.open);
        match progress.unexpected.take() {
            Some(error) => Err(error),
            None if open.is_empty() => Ok(()),
            None => Err(ScriptError::Missing(open.into_values().collect())),
        }
    }
}

impl Drop for Script {
    #[expect(
        clippy::panic,
        reason = "a test fails by panicking, and this may be the only sign"
    )]
    fn drop(&mut self) {
        // A second panic while the first unwinds would abort the process, and hide the first.
        if thread::panicking() {
            return;
        }
        if let Err(error) = self.verdict() {
            panic!("{error}");
        }
    }
}

/// One method of a fake, with its expected calls. Made by [`Script::method`].
#[derive(Debug)]
pub struct Method<C, R> {
    name: &'static str,
    expected: Mutex<Vec<Expected<C, R>>>,
    script: Arc<Shared>,
}

#[derive(Debug)]
struct Expected<C, R> {
    number: u64,
    arguments: C,
    delay: Duration,
    answer: R,
}

impl<C: PartialEq + Debug, R> Method<C, R> {
    /// Expects one call with these arguments, and answers it as soon as it has suspended once.
    pub fn expect(&self, arguments: C, answer: R) {
        self.expect_late(arguments, Duration::ZERO, answer);
    }

    /// Expects one call with these arguments, and answers it `delay` later. [`Duration::MAX`] is
    /// never.
    pub fn expect_late(&self, arguments: C, delay: Duration, answer: R) {
        let mut expected = lock(&self.expected);
        let mut progress = lock(&self.script.progress);
        let number = progress.numbered;
        progress.numbered += 1;
        progress.open.insert(number, self.describe(&arguments));
        expected.push(Expected {
            number,
            arguments,
            delay,
            answer,
        });
    }

    /// The call itself, to be awaited in the fake's method.
    ///
    /// # Panics
    ///
    /// If the call is not expected, or others are to come before it.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the call has come: dropped before it is done, its answer is lost, as that of a
    /// real request would be.
    pub async fn call(&self, arguments: C) -> R {
        let (delay, answer) = self.take(&arguments);
        yield_now().await; // as anything remote would
        if delay == Duration::MAX {
            pending::<()>().await; // tokio's longest sleep is 30 years, and a paused clock jumps there
        }
        if !delay.is_zero() {
            sleep(delay).await;
        }
        answer
    }

    #[expect(clippy::panic, reason = "a test fails by panicking")]
    fn take(&self, arguments: &C) -> (Duration, R) {
        let mut expected = lock(&self.expected);
        let mut progress = lock(&self.script.progress);
        let call = self.describe(arguments);
        let now = self.script.started.elapsed();
        progress.came.push((now, call.clone()));
        let next = progress.open.keys().next().copied();
        let fits = |one: &Expected<C, R>| {
            one.arguments == *arguments && (!self.script.in_order || Some(one.number) == next)
        };
        let found = expected.iter().position(fits);
        if let Some(found) = found.filter(|_| !progress.is_over) {
            let found = expected.remove(found);
            progress.open.remove(&found.number);
            return (found.delay, found.answer);
        }
        let candidates = if self.script.in_order { 1 } else { usize::MAX };
        let expected = progress.open.values().take(candidates).cloned().collect();
        let error = ScriptError::Unexpected { call, expected };
        progress.unexpected.get_or_insert_with(|| error.clone());
        drop(progress);
        panic!("{error}");
    }

    fn describe(&self, arguments: &C) -> String {
        let (name, arguments) = (self.name, format!("{arguments:?}"));
        if arguments.starts_with('(') {
            return name.to_owned() + &arguments; // a tuple
        }
        format!("{name}({arguments})")
    }
}

/// A fake that needs no script: the time of day, for code that takes it as an argument or from a
/// trait of yours. It follows the runtime's clock, so a paused test lets hours pass.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    at_start: SystemTime,
    started: Instant,
}

impl WallClock {
    /// It is `now`, and goes on from there.
    #[must_use]
    pub fn starting_at(now: SystemTime) -> Self {
        Self {
            at_start: now,
            started: Instant::now(),
        }
    }

    /// The time of day.
    ///
    /// # Panics
    ///
    /// If that is later than `SystemTime` can say: in billions of years on Linux.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.at_start + self.started.elapsed()
    }
}

fn list(calls: &[String]) -> String {
    if calls.is_empty() {
        return "no call".to_owned();
    }
    calls.join(", ")
}

/// A panic under the lock is a failed test already; what is behind it can still be told.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
