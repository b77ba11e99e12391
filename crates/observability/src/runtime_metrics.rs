//! # Runtime metrics: a watchdog for stalls
//!
//! The process is up, its port is open, and nothing answers. A call that blocks or computes holds the
//! runtime's threads, and everything that could tell you, the health check, the metrics' endpoint,
//! the timer that would log it, waits for the same threads. Here a thread of its own asks the runtime
//! for a sign of life, and tells when none comes, which workers do not come back from their task, how
//! many tasks are alive and how many wait. A single worker that is held is told as well, while the
//! others still answer.
//!
//! ## Use it when
//! - a service runs for days, and somebody is to hear of a stall from it and not from its users;
//! - you want to graph a runtime's load: [`Snapshot::since`] gives a period's numbers.
//!
//! ## Use something else when
//! - you know that it stalls, and look for the task that does it: `console`;
//! - you know the call, and have to get it off the runtime: `cpu_offload`, `sync_bridge`;
//! - one operation is slow, and the rest is not: `deadline`.
//!
//! ## Add to your project
//! ```console
//! cargo add tokio --features rt,time
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - A runtime cannot watch itself: while it is blocked, the task that would notice is, too.
//! - `worker_total_busy_duration` grows when a worker comes back: one that is blocked shows as idle,
//!   and jumps afterwards. Ask for [`WorkerChange::held`] too.
//! - `global_queue_depth` is not the queue: what a task spawns or wakes waits in its worker's own,
//!   whose depth stable tokio does not tell.
//! - The future of `block_on` runs on no worker of a multi-thread runtime: nobody sees it block. A
//!   current-thread runtime runs only within `block_on`: watch it no longer than that.
//! - The report is made on the watchdog's thread. If it waits for the runtime, it waits for the stall
//!   to end: log it, or `try_send` it.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::time::Instant;
use tracing::error;

/// What a runtime's metrics say at an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Instant,
    /// Tasks that are spawned and have not ended.
    pub alive_tasks: usize,
    /// Tasks that wait for any worker, scheduled from outside of the workers.
    pub queued: usize,
    /// The counters of each worker since the runtime's start.
    pub workers: Vec<Worker>,
}

/// The counters of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// Time spent on tasks, without the one it is at.
    pub busy: Duration,
    /// How often it had nothing to do and went to sleep.
    pub parks: u64,
    /// Whether it sleeps.
    pub parked: bool,
}

/// What has happened between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The time between them.
    pub over: Duration,
    /// Each worker's part.
    pub workers: Vec<WorkerChange>,
}

/// What one worker did between two snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerChange {
    /// Time spent on tasks that it came back from in between: more than [`Change::over`] if it had
    /// begun before.
    pub busy: Duration,
    /// How often it went to sleep.
    pub parks: u64,
    /// Awake at both, and not once back from its tasks in between: it is at one task, or at as many
    /// as it takes in a row, 61 unless the runtime's builder says something else.
    pub held: bool,
}

/// How often to look, and what to put up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The pause between a sign of life and the next question.
    pub period: Duration,
    /// How long the runtime may take to answer, and a worker to come back. A stall is reported within
    /// this time and a period from its beginning, a held worker within this time and two periods.
    pub limit: Duration,
}

/// What a [`Watchdog`] has seen. Displayed, it is a line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The runtime's name, as given to [`Watchdog::start`].
    pub runtime: Arc<str>,
    /// What has happened.
    pub event: Event,
    /// What the metrics said then.
    pub metrics: Snapshot,
}

/// What can happen to a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It has not run a new task for so long. These workers have not come back from theirs since half
    /// of the limit was over; with none of them stuck it has more to do than it can.
    Stalled(Duration, Vec<usize>),
    /// It runs tasks again, after so long.
    Recovered(Duration),
    /// It runs tasks, but this worker has not come back from one for so long.
    WorkerHeld(usize, Duration),
    /// That worker has come back, after so long.
    WorkerFree(usize, Duration),
    /// It has shut down. It is the last report.
    Ended,
}

/// Watches a runtime from a thread of its own. Dropping it ends that: no further report begins, and one
/// that is being made is not waited for.
#[derive(Debug)]
#[must_use = "dropping it ends the watch"]
pub struct Watchdog(Arc<Shared>);

impl Watchdog {
    /// Watches the runtime of `handle`, which it does not keep alive, and calls `report` with what it
    /// sees. If `report` panics, that is a `tracing` event, and the watch goes on.
    ///
    /// # Errors
    ///
    /// The system's, if it gives no thread.
    pub fn start(
        name: &str,
        handle: Handle,
        settings: Settings,
        report: impl FnMut(Report) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut watch = Watch {
            shared: Arc::clone(&shared),
            runtime: name.into(),
            handle,
            settings,
            report,
        };
        let thread = thread::Builder::new().name("watchdog".to_owned());
        thread.spawn(move || watch.run())?;
        Ok(Self(shared))
    }

    /// How many signs of life there have been. If it stands still, the runtime is stalled, or the
    /// report waits for something.
    #[must_use]
    pub fn signs_of_life(&self) -> u64 {
        self.0.lock().signs
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.set(|state| state.stopped = true);
    }
}

/// What the thread works with.
struct Watch<F> {
    shared: Arc<Shared>,
    runtime: Arc<str>,
    handle: Handle,
    settings: Settings,
    report: F,
}

impl<F: FnMut(Report)> Watch<F> {
    fn run(&mut self) {
        let metrics = self.handle.metrics();
        let mut last = Snapshot::of(&metrics);
        // Since when each worker is held, and whether that was told.
        let mut held = vec![(last.at, false); last.workers.len()];
        loop {
            let asked = Instant::now();
            self.shared.set(|state| state.answer = None);
            let sign = SignOfLife {
                shared: Arc::clone(&self.shared),
                has_run: false,
            };
            self.handle.spawn(async move { sign.give() });
            let is_answered = |state: &State| state.answer.is_some();
            let half = self.settings.limit / 2;
            let is_late = !self.shared.wait(half, is_answered);
            let halfway = is_late.then(|| Snapshot::of(&metrics));
            // Compared with halfway: who came back since the question, and not again, is stuck as well.
            if let Some(halfway) = halfway
                && !self.shared.wait(self.settings.limit - half, is_answered)
            {
                let now = Snapshot::of(&metrics);
                let workers = now.workers.iter().zip(&halfway.workers).enumerate();
                // A worker may have slept halfway, and have been woken to something else.
                let is_stuck = |now: &Worker, then| !now.parked && !now.came_back_since(then);
                let stuck =
                    workers.filter_map(|(index, (now, then))| is_stuck(now, then).then_some(index));
                let stuck = stuck.collect();
                self.tell(Event::Stalled(now.at - asked, stuck), now);
                self.shared.wait(Duration::MAX, is_answered);
                let now = Snapshot::of(&metrics);
                // Whoever is only now on his way back was told of with the stall.
                let untold = held.iter_mut().filter(|(_, is_told)| !is_told);
                untold.for_each(|(since, _)| *since = now.at);
                if self.shared.lock().answer == Some(true) {
                    self.tell(Event::Recovered(now.at - asked), now);
                }
            }
            let now = Snapshot::of(&metrics);
            if self.shared.lock().answer == Some(false) {
                return self.tell(Event::Ended, now);
            }
            let workers = now.since(&last).workers.into_iter().zip(&mut held);
            for (index, (worker, (since, is_told))) in workers.enumerate() {
                let lasted = now.at - *since;
                if worker.held && !*is_told && lasted >= self.settings.limit {
                    *is_told = true;
                    self.tell(Event::WorkerHeld(index, lasted), now.clone());
                } else if !worker.held {
                    if *is_told {
                        self.tell(Event::WorkerFree(index, lasted), now.clone());
                    }
                    (*since, *is_told) = (now.at, false);
                }
            }
            last = now;
            if self
                .shared
                .wait(self.settings.period, |state| state.stopped)
            {
                return;
            }
        }
    }

    fn tell(&mut self, event: Event, metrics: Snapshot) {
        if self.shared.lock().stopped {
            return;
        }
        let report = Report {
            runtime: Arc::clone(&self.runtime),
            event,
            metrics,
        };
        let line = report.to_string();
        if catch_unwind(AssertUnwindSafe(|| (self.report)(report))).is_err() {
            error!("the watchdog's report panicked: {line}");
        }
    }
}

/// What the thread, the task that answers it, and the owner tell each other.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The last question's: whether the task ran, or was dropped by a runtime that shut down.
    answer: Option<bool>,
    signs: u64,
    stopped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits so long for this, or for the end. Tells whether it is so.
    fn wait(&self, limit: Duration, is_so: impl Fn(&State) -> bool) -> bool {
        let goes_on = |state: &mut State| !state.stopped && !is_so(state);
        let waited = self.changed.wait_timeout_while(self.lock(), limit, goes_on);
        is_so(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

/// Is carried by the task that is to answer. A runtime that shuts down drops it without a run.
struct SignOfLife {
    shared: Arc<Shared>,
    has_run: bool,
}

impl SignOfLife {
    fn give(mut self) {
        self.has_run = true;
    }
}

impl Drop for SignOfLife {
    // The only place that answers: after an answer, the next question may be asked at once.
    fn drop(&mut self) {
        self.shared.set(|state| {
            state.answer = Some(self.has_run);
            state.signs += u64::from(self.has_run);
        });
    }
}

impl Worker {
    fn came_back_since(&self, then: &Self) -> bool {
        (self.busy, self.parks) != (then.busy, then.parks)
    }
}

impl Snapshot {
    /// Reads the metrics. They are counters of the running threads, so the fields are not of one and
    /// the same instant.
    #[must_use]
    pub fn of(metrics: &RuntimeMetrics) -> Self {
        let worker = |index| Worker {
            busy: metrics.worker_total_busy_duration(index),
            parks: metrics.worker_park_count(index),
            parked: metrics.worker_park_unpark_count(index) % 2 == 1,
        };
        Self {
            at: Instant::now(),
            alive_tasks: metrics.num_alive_tasks(),
            queued: metrics.global_queue_depth(),
            workers: (0..metrics.num_workers()).map(worker).collect(),
        }
    }

    /// What has happened since an earlier snapshot of the same runtime.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Change {
        let pairs = self.workers.iter().zip(&earlier.workers);
        let change = |(now, then): (&Worker, &Worker)| WorkerChange {
            busy: now.busy.saturating_sub(then.busy),
            parks: now.parks.saturating_sub(then.parks),
            held: !now.parked && !then.parked && !now.came_back_since(then),
        };
        Change {
            over: self.at.saturating_duration_since(earlier.at),
            workers: pairs.map(change).collect(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runtime {}: ", self.runtime)?;
        match &self.event {
            Event::Stalled(waited, held) => {
                write!(
                    f,
                    "no task has run for {waited:.1?}, held workers: {held:?}"
                )
            }
            Event::Recovered(lasted) => write!(f, "tasks run again, after {lasted:.1?}"),
            Event::WorkerHeld(worker, lasted) => {
                write!(f, "worker {worker} has been at one task for {lasted:.1?}")
            }
            Event::WorkerFree(worker, lasted) => {
                write!(f, "worker {worker} is free, after {lasted:.1?}")
            }
            Event::Ended => f.write_str("has shut down"),
        }?;
        let Snapshot {
            alive_tasks,
            queued,
            ..
        } = self.metrics;
        write!(f, " ({alive_tasks} tasks alive, {queued} queued)")
    }
}
