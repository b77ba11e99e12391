//! What a supervisor promises, and what tokio does with tasks that nobody owns.

use std::fmt::Debug;
use std::future::pending;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use futures_util::poll;
use tasks::supervisor::{Ended, Failure, Outcome, Restarts, StopLimits, Supervisor};
use testing::capture_events::Capture;
use testing::every_await_point::{Outcome as Round, every_await_point};
use tokio::runtime::{Builder, Runtime, RuntimeFlavor};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const STOP: StopLimits = StopLimits {
    finish: Duration::from_secs(10),
    abort: SECOND,
};

/// Three restarts, after 1 s, 2 s and 3 s; 60 s without a failure is healthy.
const THREE: Restarts = Restarts {
    limit: 3,
    healthy_after: LIMIT,
    first_delay: SECOND,
    max_delay: Duration::from_secs(3),
};
const NEVER: Restarts = Restarts { limit: 0, ..THREE };
const ALWAYS: Restarts = Restarts {
    limit: usize::MAX,
    ..THREE
};

fn supervisor() -> Supervisor<&'static str> {
    Supervisor::new(&CancellationToken::new())
}

/// The next task that ends for good, and how.
#[expect(clippy::expect_used, reason = "a helper of tests")]
async fn next(supervisor: &mut Supervisor<&'static str>) -> (String, Outcome<&'static str>) {
    let ended = timeout(LIMIT * 60, supervisor.next())
        .await
        .expect("no task ends");
    let Ended { name, outcome } = ended.expect("no task is left");
    (name.to_string(), outcome)
}

/// Names and outcomes, by name.
fn sorted(ended: Vec<Ended<&'static str>>) -> Vec<(String, Outcome<&'static str>)> {
    let pairs = ended
        .into_iter()
        .map(|ended| (ended.name.to_string(), ended.outcome));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}

/// A list that tasks write to and the test reads.
#[derive(Debug, Clone, Default)]
struct Journal(Arc<Mutex<Vec<u128>>>);

impl Journal {
    fn note(&self, number: u128) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(number);
    }
    fn read(&self) -> Vec<u128> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Work that notes when each of its attempts begins and fails `after` that.
fn failing(
    started: Instant,
    begins: &Journal,
    after: Duration,
) -> impl FnMut(
    CancellationToken,
) -> std::pin::Pin<Box<dyn Future<Output = Result<(), &'static str>> + Send>>
+ Send
+ 'static {
    let begins = begins.clone();
    move |_| {
        begins.note(started.elapsed().as_secs().into());
        Box::pin(async move {
            sleep(after).await;
            Err("no network")
        })
    }
}

async fn for_ever(_: CancellationToken) -> Result<(), &'static str> {
    pending().await
}

async fn until_told(token: CancellationToken) -> Result<(), &'static str> {
    token.cancelled().await;
    Ok(())
}

// What tokio does

#[tokio::test(start_paused = true)]
async fn a_dropped_join_handle_stops_nothing_and_its_tasks_error_goes_nowhere() {
    let (sender, mut received) = mpsc::channel(1);
    let log = Capture::of("");
    let _guard = log.start();
    let handle = tokio::spawn(async move {
        for number in 0..3 {
            sleep(SECOND).await;
            sender.send(number).await.unwrap();
        }
        panic!("nobody hears this");
    });
    drop(handle);
    let mut numbers = Vec::new();
    while let Some(number) = received.recv().await {
        numbers.push(number);
    }
    assert_eq!(numbers, [0, 1, 2], "it ran on to its panic");
    assert!(log.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn abort_of_a_finished_task_is_ok_and_of_a_sleeping_one_is_cancelled() {
    let finished = tokio::spawn(async { 7 });
    let sleeping = tokio::spawn(async {
        sleep(SECOND).await;
        7
    });
    sleep(SECOND / 2).await;
    finished.abort();
    sleeping.abort();
    assert_eq!(finished.await.unwrap(), 7);
    assert!(sleeping.await.unwrap_err().is_cancelled());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abort_of_code_that_never_yields_does_nothing() {
    let spin = Spin::default();
    let task = tokio::spawn({
        let spin = spin.clone();
        async move { spin.until_released() }
    });
    spin.wait_until_it_spins().await;
    task.abort();
    sleep(Duration::from_millis(50)).await;
    assert!(!task.is_finished());
    spin.release();
    assert!(
        timeout(LIMIT, task).await.unwrap().unwrap(),
        "not even its result is lost"
    );
}

#[test]
fn the_drop_of_a_runtime_waits_for_code_that_never_yields() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let spin = Spin::default();
    let task = spin.clone();
    runtime.spawn(async move { task.until_released() });
    runtime.block_on(spin.wait_until_it_spins());
    let releaser = spin.release_in(Duration::from_millis(100));
    drop(runtime);
    assert!(
        spin.is_released(),
        "it returned while the task was spinning"
    );
    releaser.join().unwrap();
}

// Restarts

#[tokio::test(start_paused = true)]
async fn a_failed_task_starts_again_after_growing_delays_until_the_limit() {
    let (begins, started) = (Journal::default(), Instant::now());
    let mut supervisor = supervisor();
    supervisor.spawn("poller", THREE, failing(started, &begins, Duration::ZERO));
    let ended = next(&mut supervisor).await;
    let gave_up = Outcome::GaveUp(Failure::Failed("no network"));
    assert_eq!(ended, ("poller".to_owned(), gave_up));
    assert_eq!(
        begins.read(),
        [0, 1, 1 + 2, 1 + 2 + 3],
        "doubled, then capped"
    );
    assert_eq!(started.elapsed(), 6 * SECOND);
    assert_eq!(supervisor.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn the_delay_counts_from_the_failure() {
    let (begins, started) = (Journal::default(), Instant::now());
    let mut supervisor = supervisor();
    supervisor.spawn("poller", THREE, failing(started, &begins, 10 * SECOND));
    next(&mut supervisor).await;
    assert_eq!(begins.read(), [0, 11, 23, 36]);
}

#[tokio::test(start_paused = true)]
async fn restarts_need_nobody_to_call_next() {
    let (begins, started) = (Journal::default(), Instant::now());
    let mut supervisor = supervisor();
    supervisor.spawn("poller", THREE, failing(started, &begins, Duration::ZERO));
    sleep(LIMIT).await;
    assert_eq!(begins.read(), [0, 1, 3, 6]);
    assert!(matches!(next(&mut supervisor).await.1, Outcome::GaveUp(_)));
    assert_eq!(started.elapsed(), LIMIT, "its end was kept");
}

#[tokio::test(start_paused = true)]
async fn without_restarts_the_first_failure_is_final() {
    let (begins, started) = (Journal::default(), Instant::now());
    let mut supervisor = supervisor();
    supervisor.spawn("poller", NEVER, failing(started, &begins, Duration::ZERO));
    next(&mut supervisor).await;
    assert_eq!(
        (begins.read(), started.elapsed()),
        (vec![0], Duration::ZERO)
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_returns_ok_is_not_started_again() {
    let attempts = Arc::new(AtomicU64::new(0));
    let mut supervisor = supervisor();
    let counter = Arc::clone(&attempts);
    supervisor.spawn("second time lucky", THREE, move |_| {
        let first = counter.fetch_add(1, Ordering::Relaxed) == 0;
        async move { if first { Err("not yet") } else { Ok(()) } }
    });
    assert_eq!(next(&mut supervisor).await.1, Outcome::Finished);
    assert_eq!(supervisor.next().await, None);
    assert_eq!(attempts.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn ends_that_were_not_read_are_told_in_the_order_in_which_they_happened() {
    let mut supervisor = supervisor();
    for (name, seconds) in [("slow", 3), ("fast", 1), ("medium", 2)] {
        supervisor.spawn(name, NEVER, move |_| async move {
            sleep(seconds * SECOND).await;
            Ok(())
        });
    }
    sleep(LIMIT).await;
    for name in ["fast", "medium", "slow"] {
        assert_eq!(next(&mut supervisor).await.0, name);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_gave_up_does_not_touch_the_others() {
    let (begins, started) = (Journal::default(), Instant::now());
    let mut supervisor = supervisor();
    supervisor.spawn("poller", NEVER, failing(started, &begins, Duration::ZERO));
    supervisor.spawn("worker", NEVER, async |_| {
        sleep(SECOND).await;
        Ok(())
    });
    assert_eq!(next(&mut supervisor).await.0, "poller");
    assert_eq!(
        next(&mut supervisor).await,
        ("worker".to_owned(), Outcome::Finished)
    );
    assert_eq!(started.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn panics_are_caught_wherever_they_happen_and_the_last_one_is_told() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let places = Arc::new(AtomicU64::new(0));
    let mut supervisor = supervisor();
    let place = Arc::clone(&places);
    supervisor.spawn("fragile", THREE, move |_| {
        let place = place.fetch_add(1, Ordering::Relaxed);
        assert_ne!(place, 0, "in the closure");
        let bomb = if place == 2 { Some(Bomb) } else { None };
        async move {
            let _bomb = bomb;
            sleep(SECOND).await;
            assert_ne!(place, 1, "after an await");
            if place == 3 {
                panic_any(7);
            }
            Ok(())
        }
    });
    let started = Instant::now();
    let outcome = next(&mut supervisor).await.1;
    assert_eq!(
        outcome,
        Outcome::GaveUp(Failure::Panicked("no message".to_owned()))
    );
    assert_eq!(
        places.load(Ordering::Relaxed),
        4,
        "each panic cost one attempt"
    );
    assert_eq!(started.elapsed(), (1 + 2 + 3 + 3) * SECOND);

    for (at, message) in [
        (0, "in the closure"),
        (1, "after an await"),
        (2, "in a destructor"),
    ] {
        let mut supervisor = self::supervisor();
        supervisor.spawn("fragile", NEVER, move |_| {
            assert_ne!(at, 0, "in the closure");
            async move {
                sleep(SECOND).await;
                assert_ne!(at, 1, "after an await");
                let _bomb = Bomb;
                Ok(())
            }
        });
        match next(&mut supervisor).await.1 {
            Outcome::GaveUp(Failure::Panicked(text)) => assert!(text.contains(message), "{text}"),
            other => panic!("{message}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_ran_long_enough_begins_a_new_row() {
    let (begins, started) = (Journal::default(), Instant::now());
    let note = begins.clone();
    let mut attempt = 0;
    let mut supervisor = supervisor();
    supervisor.spawn("poller", THREE, move |_| {
        note.note(started.elapsed().as_secs().into());
        attempt += 1;
        // The third attempt is healthy, at the very instant; the sixth is 1 ms short of it.
        let runs = match attempt {
            3 => LIMIT,
            6 => LIMIT - Duration::from_millis(1),
            _ => Duration::ZERO,
        };
        async move {
            sleep(runs).await;
            Err("no network")
        }
    });
    next(&mut supervisor).await;
    // Delays 1, 2 | 1, 2, 3: three more after the healthy one, and the first as short as ever.
    let expected = [0, 1, 3, 3 + 60 + 1, 64 + 2, 66 + 3];
    assert_eq!(begins.read(), expected);
    assert_eq!(
        started.elapsed(),
        69 * SECOND + LIMIT - Duration::from_millis(1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_after_being_healthy_starts_again_for_ever() {
    let (begins, started) = (Journal::default(), Instant::now());
    let mut supervisor = supervisor();
    supervisor.spawn("poller", THREE, failing(started, &begins, LIMIT));
    timeout(1000 * (LIMIT + SECOND), supervisor.next())
        .await
        .expect_err("the limit has no effect");
    assert_eq!(begins.read().len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_panic_under_a_std_mutex_makes_every_restart_panic_unless_the_state_is_made_anew() {
    let table = Arc::new(Mutex::new(0));
    let attempts = Arc::new(AtomicU64::new(0));
    let mut supervisor = supervisor();
    let counter = Arc::clone(&attempts);
    supervisor.spawn("shared", THREE, move |_| {
        let (table, first) = (
            Arc::clone(&table),
            counter.fetch_add(1, Ordering::Relaxed) == 0,
        );
        async move {
            let _row = table.lock().expect("poisoned");
            assert!(!first, "only once");
            Ok(())
        }
    });
    let mut first = true;
    supervisor.spawn("anew", THREE, move |_| {
        let (table, first) = (Mutex::new(0), std::mem::take(&mut first));
        async move {
            let _row = table.lock().expect("poisoned");
            assert!(!first, "only once");
            Ok(())
        }
    });
    assert_eq!(
        next(&mut supervisor).await,
        ("anew".to_owned(), Outcome::Finished)
    );
    let (_, outcome) = next(&mut supervisor).await;
    let Outcome::GaveUp(Failure::Panicked(message)) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(message.contains("poisoned"), "{message}");
    assert_eq!(attempts.load(Ordering::Relaxed), 4, "all for one panic");
}

#[tokio::test(start_paused = true)]
async fn what_a_task_spawns_by_itself_is_there_once_more_after_each_restart() {
    let alive = Arc::new(());
    let children = Arc::clone(&alive);
    let mut supervisor = supervisor();
    supervisor.spawn("parent", THREE, move |_| {
        let child = Arc::clone(&children);
        async move {
            drop(tokio::spawn(async move {
                let _child = child;
                pending::<()>().await;
            }));
            Err("no network")
        }
    });
    next(&mut supervisor).await;
    drop(supervisor);
    sleep(SECOND).await;
    assert_eq!(
        Arc::strong_count(&alive),
        1 + 4,
        "four attempts, and each child lives on"
    );
}

// Stop and drop

#[tokio::test(start_paused = true)]
async fn stop_waits_for_those_that_heed_it_and_aborts_the_others_at_the_deadline() {
    let mut supervisor = supervisor();
    supervisor.spawn("polite", ALWAYS, async |token| {
        token.cancelled().await;
        sleep(4 * SECOND).await;
        Ok(())
    });
    supervisor.spawn("deaf", ALWAYS, for_ever);
    sleep(SECOND).await;
    let started = Instant::now();
    let ended = sorted(supervisor.stop(STOP).await);
    let expected = [
        ("deaf".to_owned(), Outcome::Aborted),
        ("polite".to_owned(), Outcome::Finished),
    ];
    assert_eq!(ended, expected);
    assert_eq!(
        started.elapsed(),
        STOP.finish,
        "an aborted task is gone at once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_time_for_the_abort_takes_a_stoppable_task_for_a_running_one() {
    let limits = StopLimits {
        abort: Duration::ZERO,
        ..STOP
    };
    let mut supervisor = supervisor();
    supervisor.spawn("deaf", ALWAYS, for_ever);
    let ended = sorted(supervisor.stop(limits).await);
    assert_eq!(ended, [("deaf".to_owned(), Outcome::StillRunning)]);
}

#[tokio::test(start_paused = true)]
async fn stop_returns_as_soon_as_all_have_ended_with_every_end_not_told_before() {
    let mut supervisor = supervisor();
    supervisor.spawn("told before", NEVER, async |_| Ok(()));
    next(&mut supervisor).await;
    supervisor.spawn("ended before", NEVER, async |_| Err("no network"));
    supervisor.spawn("polite", NEVER, until_told);
    sleep(SECOND).await;
    let started = Instant::now();
    let ended = sorted(supervisor.stop(STOP).await);
    let gave_up = Outcome::GaveUp(Failure::Failed("no network"));
    let expected = [
        ("ended before".to_owned(), gave_up),
        ("polite".to_owned(), Outcome::Finished),
    ];
    assert_eq!(ended, expected);
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(self::supervisor().stop(STOP).await, [], "nothing to stop");
}

#[tokio::test(start_paused = true)]
async fn more_ends_than_a_turn_can_read_keep_their_order() {
    let mut supervisor = supervisor();
    for number in 0..1_000 {
        supervisor.spawn(number.to_string(), NEVER, async |_| Ok(()));
    }
    sleep(SECOND).await; // on one thread they have ended in this order
    let mut order = Vec::new();
    while let Some(ended) = supervisor.next().await {
        order.push(ended.name.to_string());
    }
    let expected = (0..1_000).map(|number| number.to_string());
    // Tokio's budget is 128, and whoever comes to its end goes to the back of the line.
    assert!(order.into_iter().eq(expected), "out of order");
}

#[tokio::test(start_paused = true)]
async fn no_task_that_has_ended_is_taken_for_one_that_runs_on() {
    let limits = StopLimits {
        abort: Duration::ZERO,
        ..STOP
    };
    let ended = Arc::new(AtomicU64::new(0));
    let mut supervisor = supervisor();
    for _ in 0..1_000 {
        let ended = Arc::clone(&ended);
        supervisor.spawn("one of many", NEVER, move |token| {
            let ended = Arc::clone(&ended);
            async move {
                token.cancelled().await;
                ended.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        });
    }
    yield_now().await;
    let mut stop = pin!(supervisor.stop(limits));
    assert!(poll!(&mut stop).is_pending(), "it has told them");
    while ended.load(Ordering::SeqCst) < 1_000 {
        yield_now().await;
    }
    // When it is polled again, all have ended and the time is over; but tokio's budget is 128.
    advance(STOP.finish).await;
    let ended = stop.await;
    let finished = ended.iter().filter(|it| it.outcome == Outcome::Finished);
    assert_eq!(finished.count(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_or_waits_while_stopping_is_not_started_again() {
    let (begins, started) = (Journal::default(), Instant::now());
    let log = Capture::of("tasks");
    let _guard = log.start();
    let mut supervisor = supervisor();
    supervisor.spawn(
        "fails at the stop",
        ALWAYS,
        async |token: CancellationToken| {
            token.cancelled().await;
            Err("cannot close")
        },
    );
    let slow = Restarts {
        first_delay: LIMIT,
        max_delay: LIMIT,
        ..ALWAYS
    };
    supervisor.spawn("waits", slow, failing(started, &begins, Duration::ZERO));
    sleep(SECOND).await;
    let ended = sorted(supervisor.stop(STOP).await);
    let gave_up = |error| Outcome::GaveUp(Failure::Failed(error));
    let expected = [
        ("fails at the stop".to_owned(), gave_up("cannot close")),
        ("waits".to_owned(), gave_up("no network")),
    ];
    assert_eq!(ended, expected);
    assert_eq!(started.elapsed(), SECOND, "it did not wait for the delay");
    assert_eq!(begins.read(), [0]);
    let promises = log
        .lines()
        .into_iter()
        .filter(|line| line.contains("starts again"));
    assert_eq!(
        promises.count(),
        1,
        "by the one that waits, before the stop"
    );
}

#[tokio::test(start_paused = true)]
async fn the_callers_token_reaches_the_tasks_and_a_tasks_own_reaches_nobody_else() {
    let process = CancellationToken::new();
    let mut supervisor = Supervisor::new(&process);
    supervisor.spawn("selfish", NEVER, async |token: CancellationToken| {
        token.cancel();
        Ok(())
    });
    supervisor.spawn("polite", NEVER, until_told);
    assert_eq!(next(&mut supervisor).await.0, "selfish");
    timeout(LIMIT, supervisor.next())
        .await
        .expect_err("the other's token was cancelled");
    process.cancel();
    assert_eq!(
        next(&mut supervisor).await,
        ("polite".to_owned(), Outcome::Finished)
    );

    let process = CancellationToken::new();
    Supervisor::<&str>::new(&process).stop(STOP).await;
    assert!(
        !process.is_cancelled(),
        "a stop concerns its own tasks only"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_destructor_during_the_abort_is_told() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let mut supervisor = supervisor();
    supervisor.spawn("deaf", ALWAYS, async |_| {
        let _bomb = Bomb;
        pending().await
    });
    sleep(SECOND).await;
    let ended = sorted(supervisor.stop(STOP).await);
    let panicked = Outcome::GaveUp(Failure::Panicked("in a destructor".to_owned()));
    assert_eq!(ended, [("deaf".to_owned(), panicked)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_names_a_task_that_never_yields_and_does_not_wait_for_it() {
    let spin = Spin::default();
    let mut supervisor = supervisor();
    supervisor.spawn("spinning", ALWAYS, {
        let spin = spin.clone();
        move |_| {
            let spin = spin.clone();
            async move {
                spin.until_released();
                Ok(())
            }
        }
    });
    supervisor.spawn("deaf", ALWAYS, for_ever);
    spin.wait_until_it_spins().await;
    let limits = StopLimits {
        finish: Duration::from_millis(20),
        abort: SECOND,
    };
    let ended = timeout(LIMIT, supervisor.stop(limits))
        .await
        .expect("it waits for the spin");
    assert!(!spin.is_released());
    let expected = [
        ("deaf".to_owned(), Outcome::Aborted),
        ("spinning".to_owned(), Outcome::StillRunning),
    ];
    assert_eq!(sorted(ended), expected);
    assert_eq!(spin.ended.load(Ordering::SeqCst), 0);
    spin.release();
    timeout(LIMIT, async {
        while spin.ended.load(Ordering::SeqCst) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("it ran on to its end");
}

#[test]
fn code_that_never_yields_on_every_worker_holds_stop_past_its_limits() {
    let one = Duration::from_millis(1);
    let limits = StopLimits {
        finish: one,
        abort: one,
    };
    for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        let runtime = builder.worker_threads(1).enable_time().build().unwrap();
        let spin = Spin::default();
        let mut supervisor = supervisor();
        let _context = runtime.enter();
        supervisor.spawn("spinning", NEVER, {
            let spin = spin.clone();
            move |_| {
                let spin = spin.clone();
                async move {
                    spin.until_released();
                    Ok(())
                }
            }
        });
        if runtime.handle().runtime_flavor() == RuntimeFlavor::MultiThread {
            runtime.block_on(spin.wait_until_it_spins());
        }
        let releaser = spin.release_in(Duration::from_millis(200));
        runtime.block_on(supervisor.stop(limits));
        assert!(
            spin.is_released(),
            "it returned while the task was spinning"
        );
        releaser.join().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_supervisor_stops_its_tasks_at_their_await_and_in_their_delay() {
    let alive = Arc::new(());
    let mut supervisor = supervisor();
    for (name, fails) in [("running", false), ("waiting", true)] {
        let alive = Arc::clone(&alive);
        supervisor.spawn(name, ALWAYS, move |_| {
            let alive = Arc::clone(&alive);
            async move {
                let _alive = alive;
                if fails {
                    Err("no network")
                } else {
                    pending().await
                }
            }
        });
    }
    sleep(SECOND / 2).await;
    assert_eq!(
        Arc::strong_count(&alive),
        1 + 3,
        "two closures, one attempt"
    );
    drop(supervisor);
    yield_now().await;
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn a_task_that_the_runtime_cancelled_is_told_as_aborted() {
    let runtime = || Builder::new_current_thread().enable_time().build().unwrap();
    let mut supervisor = supervisor();
    let first: Runtime = runtime();
    first.block_on(async { supervisor.spawn("deaf", ALWAYS, for_ever) });
    drop(first);
    let ended = runtime().block_on(next(&mut supervisor));
    assert_eq!(ended, ("deaf".to_owned(), Outcome::Aborted));
}

#[test]
fn without_timers_the_first_failure_is_told_and_stop_panics() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let mut supervisor = supervisor();
    let ended = runtime.block_on(async {
        supervisor.spawn("poller", THREE, async |_| Err("no network"));
        supervisor.next().await.unwrap()
    });
    let Outcome::GaveUp(Failure::Panicked(message)) = ended.outcome else {
        panic!("{ended:?}")
    };
    assert!(message.contains("timers are disabled"), "{message}");
    let stop = AssertUnwindSafe(|| runtime.block_on(supervisor.stop(STOP)));
    catch_unwind(stop).expect_err("there is no timer for its limits");
}

#[tokio::test(start_paused = true)]
async fn enormous_limits_are_no_panic() {
    let most = Restarts {
        limit: usize::MAX,
        healthy_after: Duration::MAX,
        first_delay: Duration::MAX,
        max_delay: Duration::MAX,
    };
    let (begins, started) = (Journal::default(), Instant::now());
    let mut supervisor = supervisor();
    supervisor.spawn("late", most, failing(started, &begins, Duration::ZERO));
    let doubling = Restarts {
        first_delay: SECOND,
        ..most
    };
    supervisor.spawn(
        "later and later",
        doubling,
        failing(started, &begins, Duration::ZERO),
    );
    supervisor.spawn("polite", most, until_told);
    // Tokio takes a sleep beyond its range for one of 30 years; then the longest delay is doubled.
    let years = 31 * 365 * 24 * 60 * LIMIT;
    timeout(years, supervisor.next())
        .await
        .expect_err("none has ended");
    assert_eq!(
        begins.read().len(),
        2 + 30,
        "1 s doubled 30 times is 34 years"
    );
    let limits = StopLimits {
        finish: Duration::MAX,
        abort: Duration::MAX,
    };
    assert_eq!(
        timeout(LIMIT, supervisor.stop(limits)).await.unwrap().len(),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn restarts_without_a_delay_or_a_limit_leave_room_for_others_and_can_be_stopped() {
    let attempts = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&attempts);
    let mut supervisor = supervisor();
    let at_once = Restarts {
        first_delay: Duration::ZERO,
        max_delay: Duration::ZERO,
        ..ALWAYS
    };
    supervisor.spawn("hot", at_once, move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Err("no network") }
    });
    for _ in 0..10 {
        yield_now().await;
    }
    assert!(attempts.load(Ordering::Relaxed) > 1);
    let ended = sorted(supervisor.stop(STOP).await);
    let gave_up = Outcome::GaveUp(Failure::Failed("no network"));
    assert_eq!(ended, [("hot".to_owned(), gave_up)]);
}

// Tracing and cancel safety

#[tokio::test(start_paused = true)]
async fn each_failure_is_logged_when_it_happens_with_the_tasks_name() {
    let log = Capture::of("tasks");
    let _guard = log.start();
    let mut supervisor = supervisor();
    let once = Restarts { limit: 1, ..THREE };
    supervisor.spawn("fragile", once, async |_| panic!("out of range"));
    supervisor.spawn("deaf", NEVER, for_ever);
    sleep(SECOND / 2).await;
    let first = "WARN a supervised task failed and starts again \
                 task=fragile failure=panicked: out of range delay=1s";
    assert_eq!(log.lines(), [first]);
    sleep(SECOND).await; // nobody has called `next`
    let second = "ERROR a supervised task failed and was given up \
                  task=fragile failure=panicked: out of range";
    assert_eq!(log.lines(), [first, second]);
    supervisor.stop(STOP).await;
    let aborted = log.lines().pop().unwrap();
    let expected = "ERROR a supervised task did not end by itself task=deaf error=task ";
    assert!(aborted.starts_with(expected), "{aborted}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_has_taken_no_end() {
    let points = every_await_point(
        LIMIT,
        async || {
            let mut supervisor = supervisor();
            for seconds in 0..3 {
                supervisor.spawn("worker", NEVER, move |_| async move {
                    sleep(seconds * SECOND).await;
                    Ok(())
                });
            }
            (supervisor, 0)
        },
        async |(supervisor, read)| {
            while supervisor.next().await.is_some() {
                *read += 1;
            }
        },
        async |(mut supervisor, read), _| {
            let mut rest = 0;
            while supervisor.next().await.is_some() {
                rest += 1;
            }
            assert_eq!(read + rest, 3, "an end is lost");
        },
    )
    .await;
    assert!(points.unwrap() >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stop_leaves_no_task_alive() {
    let points = every_await_point(
        LIMIT,
        async || {
            let alive = Arc::new(());
            let mut supervisor = supervisor();
            for slow in [0, 1, 60] {
                let alive = Arc::clone(&alive);
                supervisor.spawn("worker", NEVER, move |token: CancellationToken| {
                    let alive = Arc::clone(&alive);
                    async move {
                        token.cancelled().await;
                        sleep(slow * SECOND).await;
                        drop(alive);
                        Ok(())
                    }
                });
            }
            sleep(SECOND).await;
            (alive, Some(supervisor))
        },
        async |(_, supervisor)| supervisor.take().unwrap().stop(STOP).await.len(),
        async |(alive, _), round| {
            yield_now().await;
            assert_eq!(Arc::strong_count(&alive), 1, "a task lives on");
            if let Round::Completed(ended) = round {
                assert_eq!(ended, 3);
            }
        },
    )
    .await;
    assert!(points.unwrap() >= 3);
}

/// Code that never yields, until the test lets it end.
#[derive(Debug, Clone, Default)]
struct Spin {
    begun: Arc<AtomicBool>,
    released: Arc<AtomicBool>,
    ended: Arc<AtomicU64>,
}

impl Spin {
    fn until_released(&self) -> bool {
        self.begun.store(true, Ordering::SeqCst);
        // A failed test must not leave it spinning: ten seconds end it.
        let began = Instant::now();
        while !self.is_released() && began.elapsed() < 10 * SECOND {
            spin_loop();
        }
        self.ended.fetch_add(1, Ordering::SeqCst);
        self.is_released()
    }
    async fn wait_until_it_spins(&self) {
        while !self.begun.load(Ordering::SeqCst) {
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
    fn is_released(&self) -> bool {
        self.released.load(Ordering::SeqCst)
    }
}
