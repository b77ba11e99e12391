//! What an ordered stop promises, and what its harmful twins do.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::fmt::Debug;
use std::future::pending;
use std::hint::spin_loop;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use shutdown::ordered_stop::{Ended, OrderedStop, Outcome, StopLimits};
use testing::capture_events::Capture;
use testing::every_await_point::{Outcome as Round, every_await_point};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const STOP: StopLimits = StopLimits {
    finish: Duration::from_secs(10),
    abort: SECOND,
};
/// For tests on real time.
const SHORT: StopLimits = StopLimits {
    finish: Duration::from_millis(40),
    abort: Duration::from_millis(100),
};
const NO_TIME: StopLimits = StopLimits {
    finish: Duration::ZERO,
    abort: Duration::ZERO,
};
const ONE: NonZeroU32 = NonZeroU32::MIN;
const THREE: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);

type Stages = OrderedStop<&'static str>;

fn stages() -> Stages {
    OrderedStop::new()
}

async fn at_once(_: Duration) -> Result<(), &'static str> {
    Ok(())
}

async fn a_second(_: Duration) -> Result<(), &'static str> {
    sleep(SECOND).await;
    Ok(())
}

async fn for_ever(_: Duration) -> Result<(), &'static str> {
    pending().await
}

fn ended<E>(name: &str, outcome: Outcome<E>, took: Duration) -> Ended<E> {
    let name = name.into();
    Ended {
        name,
        outcome,
        took,
    }
}

/// A stage that notes its name and the time it has, and finishes at once.
fn noting(
    journal: &Journal,
    name: &'static str,
) -> impl FnOnce(Duration) -> std::future::Ready<Result<(), &'static str>> + Send + 'static {
    let journal = journal.clone();
    move |limit| {
        journal.note(name, limit);
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_begins_when_the_one_before_has_ended_and_the_report_has_their_times() {
    let journal = Journal::default();
    let running = Arc::new(AtomicU64::new(0));
    let mut stages = stages();
    for (name, seconds) in [("listeners", 1), ("workers", 2), ("storage", 3)] {
        let (journal, running) = (journal.clone(), Arc::clone(&running));
        stages = stages.stage(name, ONE, move |limit| async move {
            journal.note(name, limit);
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
            sleep(seconds * SECOND).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        });
    }
    let limits = StopLimits {
        finish: 12 * SECOND,
        ..STOP
    };
    let report = tokio::spawn(stages.run(limits)).await.unwrap();
    let expected = [
        ended("listeners", Outcome::Finished, SECOND),
        ended("workers", Outcome::Finished, 2 * SECOND),
        ended("storage", Outcome::Finished, 3 * SECOND),
    ];
    assert_eq!(report, expected);
    // A third of 12 s; half of the 11 s that are left; all of the 9 s that are left.
    let limits = [("listeners", 4_000), ("workers", 5_500), ("storage", 9_000)];
    assert_eq!(journal.read(), limits);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_hangs_is_aborted_at_its_share_and_the_later_ones_have_theirs() {
    let journal = Journal::default();
    let held = Arc::new(());
    let holder = Arc::clone(&held);
    let hangs = async move |_| {
        let _held = holder;
        pending().await
    };
    let seen = Arc::clone(&held);
    let stages = stages()
        .stage("listeners", ONE, hangs)
        .stage("workers", THREE, noting(&journal, "workers"))
        .stage("storage", ONE, async move |limit: Duration| {
            assert_eq!(Arc::strong_count(&seen), 2, "the aborted stage is there");
            assert_eq!(limit, 8 * SECOND);
            Ok(())
        });
    let report = stages.run(STOP).await;
    let expected = [
        ended("listeners", Outcome::Aborted, 2 * SECOND),
        ended("workers", Outcome::Finished, Duration::ZERO),
        ended("storage", Outcome::Finished, Duration::ZERO),
    ];
    assert_eq!(report, expected);
    assert_eq!(
        journal.read(),
        [("workers", 6_000)],
        "three quarters of 8 s"
    );
}

#[tokio::test(start_paused = true)]
async fn if_every_stage_hangs_each_has_its_share_and_the_sum_is_the_deadline() {
    let mut stages = stages();
    for _ in 0..5 {
        stages = stages.stage("hangs", ONE, for_ever);
    }
    let started = Instant::now();
    let report = stages.run(STOP).await;
    assert_eq!(started.elapsed(), STOP.finish);
    let expected = vec![ended("hangs", Outcome::Aborted, 2 * SECOND); 5];
    assert_eq!(report, expected);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_fails_or_panics_does_not_skip_the_rest_and_an_event_tells() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let log = Capture::of("shutdown");
    let _guard = log.start();
    let bomb = Bomb;
    let stages = stages()
        .stage("a", ONE, async |_| Err("no network"))
        .stage("b", ONE, |_| -> std::future::Ready<_> {
            panic!("in the closure")
        })
        .stage("c", ONE, async |_| {
            sleep(SECOND).await;
            panic!("after an await")
        })
        .stage("d", ONE, async move |_| {
            let _bomb = bomb;
            pending().await
        })
        .stage("e", ONE, async |_| std::panic::panic_any(7))
        .stage("f", ONE, a_second);
    let report = stages.run(STOP).await;
    let panicked = |text: &str| Outcome::Panicked(text.to_owned());
    let expected = [
        ended("a", Outcome::Failed("no network"), Duration::ZERO),
        ended("b", panicked("in the closure"), Duration::ZERO),
        ended("c", panicked("after an await"), SECOND),
        ended("d", panicked("in a destructor"), 3 * SECOND),
        ended("e", panicked("no message"), Duration::ZERO),
        ended("f", Outcome::Finished, SECOND),
    ];
    assert_eq!(report, expected);
    let mut lines = log.lines().into_iter();
    for Ended {
        outcome,
        name,
        took,
    } in &report[..5]
    {
        let line = format!(
            "ERROR a stage did not stop as it should stage={name} outcome={outcome:?} took={took:?}"
        );
        assert_eq!(lines.next(), Some(line));
    }
    assert_eq!(lines.next(), None, "the last one finished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_never_awaits_is_left_behind_and_the_later_ones_have_their_time() {
    let spin = Spin::default();
    let (stuck, seen) = (spin.clone(), spin.clone());
    let stages = stages()
        .stage("stuck", ONE, async move |_| {
            stuck.until_released();
            Ok(())
        })
        .stage("hangs", ONE, for_ever)
        .stage("storage", ONE, async move |limit: Duration| {
            assert!(seen.has_begun() && !seen.has_ended(), "it does not run");
            assert!(limit <= LIMIT);
            Ok(())
        });
    // So long for the abort that a loaded machine will not use up the second stage's part.
    let limits = StopLimits {
        finish: 3 * SHORT.finish,
        abort: 30 * SHORT.abort,
    };
    let started = Instant::now();
    let report = timeout(LIMIT, stages.run(limits)).await.expect("it hangs");
    let outcomes: Vec<_> = report.into_iter().map(|ended| ended.outcome).collect();
    let expected = [Outcome::StillRunning, Outcome::Aborted, Outcome::Finished];
    assert_eq!(outcomes, expected);
    assert!(started.elapsed() >= SHORT.finish * 2 + 10 * SHORT.abort);
    spin.release();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn if_several_never_await_each_has_a_part_of_the_abort_limit_and_the_sum_holds() {
    let limits = StopLimits {
        finish: SHORT.finish,
        abort: 2 * SECOND,
    };
    let spin = Spin::default();
    let mut stages = stages();
    for _ in 0..2 {
        let spin = spin.clone();
        stages = stages.stage("stuck", ONE, async move |_| {
            spin.until_released();
            Ok(())
        });
    }
    let report = timeout(LIMIT, stages.run(limits)).await.expect("it hangs");
    spin.release();
    assert!(
        report
            .iter()
            .all(|ended| ended.outcome == Outcome::StillRunning)
    );
    assert!(report[0].took >= SECOND && report[1].took >= SECOND * 9 / 10);
    let sum = report[0].took + report[1].took;
    assert!(
        sum < limits.finish + limits.abort + SECOND * 3 / 4,
        "{sum:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_ends_long_after_its_limits_leaves_the_later_ones_less_but_within_the_deadline()
 {
    /// A destructor that blocks for ten seconds.
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            let mut clock = std::pin::pin!(tokio::time::advance(10 * SECOND));
            let mut context = Context::from_waker(Waker::noop());
            assert!(clock.as_mut().poll(&mut context).is_pending());
        }
    }
    let limits = StopLimits {
        finish: 18 * SECOND,
        abort: 3 * SECOND,
    };
    let (journal, slow) = (Journal::default(), Slow);
    let stages = stages()
        .stage("slow", ONE, async move |_| {
            let _slow = slow;
            pending().await
        })
        .stage("next", ONE, noting(&journal, "next"))
        .stage("last", ONE, for_ever);
    let started = Instant::now();
    let report = stages.run(limits).await;
    // 6 s to finish, 1 s for the abort, and 9 s more: that is 3 s of the 12 s that were left.
    let expected = [
        ended("slow", Outcome::Aborted, 16 * SECOND),
        ended("next", Outcome::Finished, Duration::ZERO),
        ended("last", Outcome::Aborted, 3 * SECOND),
    ];
    assert_eq!(report, expected);
    assert_eq!(journal.read(), [("next", 1_500)]);
    assert!(started.elapsed() <= limits.finish + limits.abort);
}

#[tokio::test(start_paused = true)]
async fn a_stage_gets_to_its_first_await_even_if_no_time_is_left() {
    let limits = StopLimits {
        finish: Duration::ZERO,
        ..STOP
    };
    let journal = Journal::default();
    let begins = journal.clone();
    let stages = stages()
        .stage("begins", ONE, async move |limit| {
            begins.note("begins", limit);
            sleep(SECOND).await;
            Ok(())
        })
        .stage("needs no time", ONE, noting(&journal, "needs no time"));
    let report = stages.run(limits).await;
    let expected = [
        ended("begins", Outcome::Aborted, Duration::ZERO),
        ended("needs no time", Outcome::Finished, Duration::ZERO),
    ];
    assert_eq!(report, expected);
    assert_eq!(journal.read(), [("begins", 0), ("needs no time", 0)]);
}

#[tokio::test(start_paused = true)]
async fn with_both_limits_zero_a_stage_is_given_up_before_it_begins_and_never_does() {
    let journal = Journal::default();
    let stages = stages().stage("a", ONE, noting(&journal, "a"));
    let report = stages.run(NO_TIME).await;
    let expected = [ended("a", Outcome::StillRunning, Duration::ZERO)];
    assert_eq!(report, expected);
    sleep(SECOND).await;
    assert_eq!(journal.read(), []);
}

#[tokio::test(start_paused = true)]
async fn enormous_limits_and_shares_are_no_panic() {
    let limits = StopLimits {
        finish: Duration::MAX,
        abort: Duration::MAX,
    };
    let journal = Journal::default();
    let stages = stages()
        .stage("least", ONE, noting(&journal, "least"))
        .stage("most", NonZeroU32::MAX, noting(&journal, "most"))
        .stage("half", NonZeroU32::MAX, noting(&journal, "half"))
        .stage("last", NonZeroU32::MAX, noting(&journal, "last"));
    assert_eq!(stages.run(limits).await.len(), 4);
    let all = Duration::MAX.as_millis();
    let shares = u128::from(u32::MAX);
    // The share of the first in whole nanoseconds; nothing is used, so the last has it all.
    let least = Duration::MAX.as_nanos() / (3 * shares + 1) / 1_000_000;
    let expected = [
        ("least", least),
        ("most", all / 3),
        ("half", all / 2),
        ("last", all),
    ];
    assert_eq!(journal.read(), expected);
}

#[tokio::test(start_paused = true)]
async fn without_stages_there_is_nothing_to_stop() {
    assert_eq!(Stages::default().run(STOP).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_stage_can_be_an_ordered_stop_again() {
    let tree = stages()
        .stage("edge", ONE, async |limit: Duration| {
            let limits = StopLimits {
                finish: limit - SECOND,
                abort: SECOND / 2,
            };
            let inner = stages()
                .stage("http", ONE, for_ever)
                .stage("grpc", ONE, a_second);
            let report = inner.run(limits).await;
            let failed = report
                .iter()
                .any(|ended| ended.outcome != Outcome::Finished);
            if failed { Err("http hangs") } else { Ok(()) }
        })
        .stage("storage", ONE, a_second);
    let report = tree.run(STOP).await;
    // 5 s for the edge, so 4 s for its two stages: 2 s and 1 s.
    let expected = [
        ended("edge", Outcome::Failed("http hangs"), 3 * SECOND),
        ended("storage", Outcome::Finished, SECOND),
    ];
    assert_eq!(report, expected);
}

// Drop

#[tokio::test(start_paused = true)]
async fn a_dropped_run_aborts_its_stage_begins_no_other_and_names_what_is_left() {
    let points = every_await_point(
        LIMIT,
        async || {
            let log = Capture::of("shutdown");
            let guard = log.start();
            let (journal, held) = (Journal::default(), Arc::new(()));
            let mut stages = stages();
            for name in ["a", "b", "c"] {
                let (journal, held) = (journal.clone(), Arc::clone(&held));
                stages = stages.stage(name, ONE, move |limit| async move {
                    journal.note(name, limit);
                    sleep(SECOND).await;
                    drop(held);
                    journal.note("ended", limit);
                    Ok(())
                });
            }
            (Some(stages), journal, held, log, guard)
        },
        async |(stages, ..)| stages.take().unwrap().run(STOP).await.len(),
        async |(_, journal, held, log, _guard), round| {
            yield_now().await;
            assert_eq!(Arc::strong_count(&held), 1, "a stage lives on");
            sleep(LIMIT / 2).await; // nothing begins later
            let noted = journal.read();
            let ends = noted.iter().filter(|(name, _)| *name == "ended").count();
            let begun = noted.len() - ends;
            if let Round::Completed(told) = round {
                assert_eq!((told, ends, log.lines()), (3, 3, vec![]));
                return;
            }
            assert!(begun <= ends + 1, "{noted:?}");
            // A stage that had ended, and whose end `run` had not seen, is among those that are left.
            let left = |from: usize| {
                let names = &["a", "b", "c"][from..];
                [format!(
                    "ERROR dropped before these stages were stopped stages={names:?}"
                )]
            };
            let told = log.lines();
            assert!(
                told == left(ends) || (ends > 0 && told == left(ends - 1)),
                "{told:?}"
            );
        },
    )
    .await;
    assert!(points.unwrap() >= 3, "one for each stage");
}

#[test]
fn stages_that_are_never_run_are_named_by_an_event() {
    let log = Capture::of("shutdown");
    let _guard = log.start();
    drop(
        stages()
            .stage("listeners", ONE, at_once)
            .stage("storage", ONE, at_once),
    );
    drop(stages());
    let line = "ERROR dropped before these stages were stopped stages=[\"listeners\", \"storage\"]";
    assert_eq!(log.lines(), [line]);
}

// What the page warns of

#[tokio::test(start_paused = true)]
async fn one_timeout_around_all_stages_never_flushes_the_storage_and_a_question_mark_skips_it() {
    let flushed = AtomicU64::new(0);
    let all = async |workers: Result<(), &'static str>| {
        a_second(LIMIT).await?;
        match workers {
            Ok(()) => pending().await, // they hang
            Err(error) => Err(error)?,
        }
        flushed.fetch_add(1, Ordering::SeqCst);
        Ok::<_, &str>(())
    };
    timeout(STOP.finish, all(Ok(()))).await.unwrap_err();
    let failed = timeout(STOP.finish, all(Err("no network"))).await;
    assert_eq!(failed.unwrap(), Err("no network"));
    assert_eq!(flushed.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_waits_as_long_as_it_was_given_loses_its_own_report() {
    for (less, outcome) in [
        (Duration::ZERO, Outcome::Aborted),
        (SECOND, Outcome::Failed("clients were cut off")),
    ] {
        let stages = stages().stage("workers", ONE, async move |limit: Duration| {
            let clients = timeout(limit - less, pending::<()>()).await;
            yield_now().await; // it has something to do when its wait is over
            clients.map_err(|_| "clients were cut off")
        });
        let report = stages.run(STOP).await;
        assert_eq!(report, [ended("workers", outcome, STOP.finish - less)]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stage_spawns_by_itself_outlives_its_abort() {
    let (alive, mut gone) = mpsc::channel::<()>(1);
    let stages = stages().stage("workers", ONE, async move |_| {
        let task = tokio::spawn(async move {
            sleep(LIMIT).await;
            drop(alive);
        });
        task.await.map_err(|_| "panicked")
    });
    let report = stages.run(STOP).await;
    assert_eq!(report, [ended("workers", Outcome::Aborted, STOP.finish)]);
    let started = Instant::now();
    assert_eq!(gone.recv().await, None);
    assert_eq!(started.elapsed(), LIMIT - STOP.finish);
}

#[test]
fn a_stage_that_never_awaits_on_the_only_worker_thread_outlasts_its_limits() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let spin = Spin::default();
    let stuck = spin.clone();
    let stages = stages().stage("stuck", ONE, async move |_| {
        stuck.until_released();
        Ok(())
    });
    // In a task: block_on has a thread of its own, but the timers are the worker's.
    let run = runtime.spawn(stages.run(SHORT));
    runtime.block_on(spin.wait_until_it_spins());
    let releaser = spin.release_in(10 * SHORT.abort);
    let report = runtime.block_on(run).unwrap();
    assert!(report[0].took >= 10 * SHORT.abort, "the limits held");
    releaser.join().unwrap();
}

// Helpers

/// What stages began, and the milliseconds they had.
#[derive(Debug, Clone, Default)]
struct Journal(Arc<Mutex<Vec<(&'static str, u128)>>>);

impl Journal {
    fn note(&self, name: &'static str, limit: Duration) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.push((name, limit.as_millis()));
    }
    fn read(&self) -> Vec<(&'static str, u128)> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.clone()
    }
}

/// Work that never awaits, until it is released.
#[derive(Debug, Clone, Default)]
struct Spin {
    begun: Arc<AtomicBool>,
    released: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl Spin {
    fn until_released(&self) {
        self.begun.store(true, Ordering::SeqCst);
        // A failed test must not leave it spinning: ten seconds end it.
        let began = Instant::now();
        while !self.is_released() && began.elapsed() < 10 * SECOND {
            spin_loop();
        }
        self.ended.store(true, Ordering::SeqCst);
    }
    async fn wait_until_it_spins(&self) {
        while !self.has_begun() {
            yield_now().await; // a timer would not fire if the only worker spins
        }
    }
    fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
    }
    fn release_in(&self, delay: Duration) -> thread::JoinHandle<()> {
        let spin = self.clone();
        thread::spawn(move || {
            #[expect(clippy::disallowed_methods, reason = "a thread without a runtime")]
            thread::sleep(delay);
            spin.release();
        })
    }
    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }
    fn is_released(&self) -> bool {
        self.released.load(Ordering::SeqCst)
    }
    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}
