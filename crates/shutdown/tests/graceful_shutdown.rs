//! What a graceful shutdown promises, and what its harmful twins do.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::fmt::{self, Debug, Formatter};
use std::future::pending;
use std::hint::spin_loop;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::poll;
use shutdown::graceful_shutdown::{Intake, Report, StopLimits, Stopped, Workers};
use testing::capture_events::Capture;
use testing::every_await_point::{Outcome as Round, every_await_point};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Event, Metadata, Subscriber, span};

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const STOP: StopLimits = StopLimits {
    finish: Duration::from_secs(10),
    abort: SECOND,
};
/// For tests on real time.
const SHORT: StopLimits = StopLimits {
    finish: Duration::from_millis(20),
    abort: Duration::from_millis(50),
};

fn workers<K: Debug>() -> (Workers<K>, Intake<K>) {
    let workers = Workers::new(&CancellationToken::new());
    let intake = workers.intake();
    (workers, intake)
}

/// The report of workers that accepted nothing.
fn nothing<K>() -> Report<K> {
    Report {
        finished: 0,
        panicked_before: 0,
        panicked: vec![],
        aborted: vec![],
        still_running: vec![],
    }
}

async fn takes(time: Duration, _: CancellationToken) {
    sleep(time).await;
}

async fn for_ever<U>(_unit: U, _: CancellationToken) {
    pending::<()>().await;
}

// Finish

#[tokio::test(start_paused = true)]
async fn the_shutdown_waits_for_every_accepted_unit_and_no_longer() {
    let (workers, intake) = workers();
    intake.spawn("short", SECOND, takes).unwrap();
    intake.spawn("long", 7 * SECOND, takes).unwrap();
    sleep(2 * SECOND).await;
    let started = Instant::now();
    let report = workers.shutdown(STOP).await;
    let expected = Report {
        finished: 2,
        ..nothing()
    };
    assert_eq!((report, started.elapsed()), (expected, 5 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn without_units_the_shutdown_returns_at_once() {
    let (workers, _intake) = workers::<u8>();
    let started = Instant::now();
    let report = tokio::spawn(workers.shutdown(STOP)).await.unwrap();
    assert_eq!((report, started.elapsed()), (nothing(), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_stop_token_refuses_new_units_and_the_shutdown_asks_those_under_way_to_finish() {
    let stop = CancellationToken::new();
    let workers = Workers::new(&stop);
    let intake = workers.intake();
    let (told, mut tells) = mpsc::channel(1);
    let work = async |told: mpsc::Sender<()>, token: CancellationToken| {
        token.cancelled().await;
        told.send(()).await.unwrap();
    };
    intake.spawn("keep-alive", told, work).unwrap();
    stop.cancel();
    assert_eq!(intake.spawn("late", 7, for_ever), Err(Stopped(7)));
    timeout(LIMIT, tells.recv())
        .await
        .expect_err("the unit was told by the stop already");
    let started = Instant::now();
    assert_eq!(workers.shutdown(STOP).await.finished, 1);
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(tells.recv().await, Some(()));
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_asked_to_finish_finds_the_intake_closed_already() {
    let (workers, intake) = workers();
    let refused = Arc::new(AtomicBool::new(false));
    let (inner, seen) = (intake.clone(), Arc::clone(&refused));
    let parent = move |(), token: CancellationToken| async move {
        token.cancelled().await;
        let part = inner.spawn("part", 7, for_ever);
        seen.store(part == Err(Stopped(7)), Ordering::SeqCst);
    };
    intake.spawn("parent", (), parent).unwrap();
    yield_now().await;
    let report = workers.shutdown(STOP).await;
    assert_eq!(report.finished, 1);
    assert!(refused.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_cancels_its_token_and_workers_that_stop_stop_nobody_else() {
    let stop = CancellationToken::new();
    let workers = Workers::new(&stop);
    let intake = workers.intake();
    let selfish = async |(), token: CancellationToken| token.cancel();
    intake.spawn("selfish", (), selfish).unwrap();
    let held = Arc::new(());
    let polite = async |_held, token: CancellationToken| token.cancelled().await;
    intake.spawn("polite", Arc::clone(&held), polite).unwrap();
    intake.stopping().cancel(); // a child, too
    sleep(SECOND).await;
    assert_eq!(Arc::strong_count(&held), 2, "it was asked to finish");
    intake.spawn("next", SECOND, takes).unwrap();
    assert_eq!(workers.shutdown(STOP).await.finished, 3);
    assert!(!stop.is_cancelled(), "others may go on");
}

#[tokio::test(start_paused = true)]
async fn an_accept_loop_without_the_stop_token_hears_of_the_shutdown() {
    let (workers, intake) = workers::<u8>();
    let accept_loop = tokio::spawn(async move { intake.stopping().cancelled().await });
    sleep(SECOND).await;
    assert!(!accept_loop.is_finished());
    assert_eq!(workers.shutdown(STOP).await, nothing());
    timeout(SECOND, accept_loop).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_a_unit_is_handed_back_or_in_the_report_whenever_the_stop_comes() {
    for round in 0..300 {
        let stop = CancellationToken::new();
        let workers = Workers::new(&stop);
        let ended = Arc::new(AtomicU64::new(0));
        let acceptors: Vec<_> = (0..3)
            .map(|_| {
                let (intake, ended) = (workers.intake(), Arc::clone(&ended));
                tokio::spawn(async move {
                    let mut accepted = 0;
                    loop {
                        let work = async |ended: Arc<AtomicU64>, _| {
                            yield_now().await;
                            ended.fetch_add(1, Ordering::SeqCst);
                        };
                        match intake.spawn(accepted, Arc::clone(&ended), work) {
                            Ok(()) => accepted += 1,
                            Err(Stopped(_)) => return accepted,
                        }
                        yield_now().await;
                    }
                })
            })
            .collect();
        for _ in 0..round {
            yield_now().await;
        }
        if round % 2 == 0 {
            stop.cancel();
        }
        let limits = StopLimits {
            finish: LIMIT,
            abort: LIMIT,
        };
        let report = workers.shutdown(limits).await;
        let seen = ended.load(Ordering::SeqCst);
        let mut accepted = 0;
        for acceptor in acceptors {
            accepted += acceptor.await.unwrap();
        }
        let expected = Report {
            finished: accepted,
            ..nothing()
        };
        assert_eq!((report, seen), (expected, accepted), "round {round}");
        let after = ended.load(Ordering::SeqCst);
        assert_eq!(after, accepted, "a unit ended after the report");
    }
}

#[test]
fn a_spawn_that_waits_its_turn_while_the_stop_comes_is_refused() {
    /// A key that holds up whoever takes note of its unit's panic.
    struct SlowKey(Spin);
    impl Debug for SlowKey {
        fn fmt(&self, _: &mut Formatter<'_>) -> fmt::Result {
            self.0.until_released();
            Ok(())
        }
    }
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let stop = CancellationToken::new();
    let workers = Workers::new(&stop);
    let spin = Spin::default();
    runtime.block_on(async {
        let panics = async |(), _| panic!("malformed");
        let key = SlowKey(spin.clone());
        workers.intake().spawn(key, (), panics).unwrap();
        yield_now().await;
    });
    let spawn = |unit| {
        let (intake, runtime) = (workers.intake(), runtime.handle().clone());
        let key = SlowKey(spin.clone());
        thread::spawn(move || {
            let _context = runtime.enter();
            intake.spawn(key, unit, for_ever)
        })
    };
    let first = spawn(2);
    while !spin.has_begun() {
        thread::yield_now(); // until it takes note of the panic
    }
    let second = spawn(3);
    #[expect(clippy::disallowed_methods, reason = "a thread without a runtime")]
    thread::sleep(SHORT.finish); // for the second to come to the lock
    stop.cancel();
    spin.release();
    assert_eq!(first.join().unwrap(), Ok(()));
    assert_eq!(second.join().unwrap(), Err(Stopped(3)));
}

// Force

#[tokio::test(start_paused = true)]
async fn the_deadline_aborts_what_is_left_and_the_report_comes_when_it_is_gone() {
    let (workers, intake) = workers();
    let held = Arc::new(());
    for key in 0..3 {
        intake.spawn(key, Arc::clone(&held), for_ever).unwrap();
    }
    intake.spawn(3, SECOND, takes).unwrap();
    let started = Instant::now();
    let mut report = workers.shutdown(STOP).await;
    assert_eq!(started.elapsed(), STOP.finish, "the abort takes no time");
    assert_eq!(Arc::strong_count(&held), 1, "an aborted unit is there");
    report.aborted.sort_unstable();
    let expected = Report {
        finished: 1,
        aborted: vec![0, 1, 2],
        ..nothing()
    };
    assert_eq!(report, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_never_awaits_is_reported_as_still_running_after_the_second_limit() {
    let (workers, intake) = workers();
    let spin = Spin::default();
    let work = async |spin: Spin, _| spin.until_released();
    intake.spawn("spinning", spin.clone(), work).unwrap();
    spin.wait_until_it_spins().await;
    let started = Instant::now();
    let report = timeout(LIMIT, workers.shutdown(SHORT)).await;
    let report = report.expect("it waits for ever");
    assert!(started.elapsed() >= SHORT.finish + SHORT.abort);
    assert_eq!(report.still_running, ["spinning"]);
    assert!(report.aborted.is_empty());
    assert!(!spin.is_released() && !spin.has_ended());
    spin.release();
}

#[test]
fn a_blocking_unit_is_reported_as_still_running_and_one_that_has_not_begun_never_begins() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let (begun, waits) = (Spin::default(), Spin::default());
    let block = |spin: Spin, _| spin.until_released();
    let mut report = runtime.block_on(async {
        let (workers, intake) = workers();
        intake
            .spawn_blocking("begun", begun.clone(), block)
            .unwrap();
        intake
            .spawn_blocking("waits", waits.clone(), block)
            .unwrap();
        begun.wait_until_it_spins().await;
        let stopped = timeout(LIMIT, workers.shutdown(SHORT)).await;
        assert!(
            intake
                .spawn_blocking("late", Spin::default(), block)
                .is_err()
        );
        stopped.expect("it waits for ever")
    });
    report.still_running.sort_unstable();
    assert_eq!(report.still_running, ["begun", "waits"]);
    assert!(!begun.has_ended());
    begun.release();
    waits.release();
    drop(runtime);
    assert!(begun.has_ended() && !waits.has_begun());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_unit_that_heeds_its_token_finishes_and_its_panic_is_told() {
    let (workers, intake) = workers();
    let heeds = |(), token: CancellationToken| {
        while !token.is_cancelled() {
            spin_loop();
        }
    };
    intake.spawn_blocking("heeds", (), heeds).unwrap();
    let panics = move |(), token| {
        heeds((), token);
        panic!("disk full");
    };
    intake.spawn_blocking("panics", (), panics).unwrap();
    let limits = StopLimits {
        finish: LIMIT,
        ..STOP
    };
    let expected = Report {
        finished: 1,
        panicked: vec![("panics", "disk full".to_owned())],
        ..nothing()
    };
    assert_eq!(workers.shutdown(limits).await, expected);
}

#[tokio::test(start_paused = true)]
async fn zero_limits_abort_at_once_and_still_tell_all_that_had_finished() {
    let zero = StopLimits {
        finish: Duration::ZERO,
        abort: Duration::ZERO,
    };
    let (workers, intake) = workers();
    for key in 0..1_000 {
        intake.spawn(key, SECOND, takes).unwrap(); // more than one turn's budget could count
    }
    let held = Arc::new(());
    intake.spawn(1_000, Arc::clone(&held), for_ever).unwrap();
    sleep(2 * SECOND).await;
    let started = Instant::now();
    let report = workers.shutdown(zero).await;
    let expected = Report {
        finished: 1_000,
        still_running: vec![1_000],
        ..nothing()
    };
    assert_eq!((report, started.elapsed()), (expected, Duration::ZERO));
    yield_now().await;
    assert_eq!(Arc::strong_count(&held), 1, "it was aborted all the same");
}

#[tokio::test(start_paused = true)]
async fn units_that_end_as_the_time_is_up_are_counted_however_many_they_are() {
    let limits = StopLimits {
        abort: Duration::ZERO,
        ..STOP
    };
    let (workers, intake) = workers();
    for key in 0..1_000 {
        intake.spawn(key, STOP.finish, takes).unwrap();
    }
    yield_now().await; // their time begins
    let report = tokio::spawn(workers.shutdown(limits)).await.unwrap(); // its own a turn later
    // The shutdown's turn may come before that of a few. One turn's budget counts 128 units.
    assert!(report.finished > 900, "{}", report.finished);
    assert_eq!(report.finished, 1_000 - report.still_running.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn no_unit_that_has_ended_is_taken_for_one_that_runs_on() {
    let limits = StopLimits {
        abort: Duration::ZERO,
        ..STOP
    };
    let (workers, intake) = workers();
    let ended = Arc::new(AtomicUsize::new(0));
    for key in 0..1_000 {
        let until_asked = async |ended: Arc<AtomicUsize>, token: CancellationToken| {
            token.cancelled().await;
            ended.fetch_add(1, Ordering::SeqCst);
        };
        intake.spawn(key, Arc::clone(&ended), until_asked).unwrap();
    }
    yield_now().await;
    let mut shutdown = pin!(workers.shutdown(limits));
    assert!(poll!(&mut shutdown).is_pending(), "it has asked them");
    while ended.load(Ordering::SeqCst) < 1_000 {
        yield_now().await;
    }
    // When it is polled again, all have ended and the time is over. It counts 128 units in a turn,
    // and the next one, for which there is no budget left, is put aside.
    advance(STOP.finish).await;
    let report = shutdown.await;
    assert_eq!((report.finished, report.still_running), (1_000, vec![]));
}

#[tokio::test(start_paused = true)]
async fn enormous_limits_are_no_panic() {
    let limits = StopLimits {
        finish: Duration::MAX,
        abort: Duration::MAX,
    };
    let (workers, intake) = workers();
    intake.spawn("long", 1_000 * LIMIT, takes).unwrap();
    assert_eq!(workers.shutdown(limits).await.finished, 1);
}

// Panics

#[tokio::test(start_paused = true)]
async fn a_panic_is_reported_with_its_unit_wherever_it_happens() {
    #[derive(Debug)]
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let log = Capture::of("shutdown");
    let _guard = log.start();
    let (workers, intake) = workers();
    let in_closure = |(), _| -> std::future::Ready<()> { panic!("in the closure") };
    intake.spawn("a", (), in_closure).unwrap();
    let after_await = async |(), token: CancellationToken| {
        token.cancelled().await;
        panic!("after an await")
    };
    intake.spawn("b", (), after_await).unwrap();
    intake.spawn("c", Bomb, for_ever).unwrap();
    let payload = async |(), _| std::panic::panic_any(7);
    intake.spawn("d", (), payload).unwrap();
    intake.spawn("e", SECOND, takes).unwrap();
    let mut report = workers.shutdown(STOP).await;
    report.panicked.sort_unstable();
    let told = [
        ("a", "in the closure"),
        ("b", "after an await"),
        ("c", "in a destructor"),
        ("d", "no message"),
    ];
    let expected = Report {
        finished: 1,
        panicked: told.map(|(key, text)| (key, text.to_owned())).to_vec(),
        ..nothing()
    };
    assert_eq!(report, expected);
    for (key, message) in told {
        let line = format!("ERROR a unit of work panicked key={key:?} panic={message}");
        assert!(log.lines().contains(&line), "{:?}", log.lines());
    }
}

#[tokio::test(start_paused = true)]
async fn an_earlier_panic_is_counted_and_logged_by_the_next_spawn_or_the_drop() {
    let log = Capture::of("shutdown");
    let _guard = log.start();
    let (workers, intake) = workers();
    let panics = async |(), _| panic!("malformed");
    for key in 1..=3 {
        intake.spawn(key, (), panics).unwrap();
        sleep(SECOND).await;
    }
    let line = |key| format!("ERROR a unit of work panicked key={key} panic=malformed");
    assert_eq!(log.lines(), [line(1), line(2)]);
    let expected = Report {
        panicked_before: 3,
        ..nothing()
    };
    assert_eq!(workers.shutdown(STOP).await, expected);
    assert_eq!(log.lines(), [line(1), line(2), line(3)]);

    let (workers, intake) = self::workers();
    intake.spawn(4, (), panics).unwrap();
    sleep(SECOND).await;
    drop(workers);
    assert_eq!(log.lines()[3..], [line(4)]);
}

/// In a thread, so that a deadlock is a failed test.
#[test]
fn who_hears_of_a_panic_may_spawn_a_unit() {
    /// Has each event sent on by a unit, as a log that goes over the network may.
    struct SentOn(Intake<&'static str>);
    impl Subscriber for SentOn {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn event(&self, _: &Event<'_>) {
            self.0.spawn("log", Duration::ZERO, takes).ok();
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }
    let (reports, report) = std::sync::mpsc::sync_channel(2);
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let _many = Capture::of("shutdown"); // with the second subscriber
        runtime.block_on(async {
            let panics = async |(), _| panic!("malformed");
            let (workers, intake) = workers();
            let guard = tracing::subscriber::set_default(SentOn(intake.clone()));
            intake.spawn("a", (), panics).unwrap();
            yield_now().await;
            intake.spawn("b", (), panics).unwrap(); // it tells of the first
            reports.send(workers.shutdown(STOP).await).unwrap(); // of the second
            drop(guard);

            let (workers, intake) = self::workers();
            let _guard = tracing::subscriber::set_default(SentOn(intake.clone()));
            intake.spawn("c", (), panics).unwrap();
            yield_now().await;
            drop(workers);
            reports.send(nothing()).unwrap();
        });
    });
    let expected = Report {
        finished: 1,
        panicked_before: 1,
        panicked: vec![("b", "malformed".to_owned())],
        ..nothing()
    };
    for expected in [expected, nothing()] {
        let report = report.recv_timeout(20 * SECOND);
        assert_eq!(report.expect("a deadlock"), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn ended_units_leave_nothing_behind() {
    let (workers, intake) = workers();
    let key = Arc::new(());
    for number in 0..10_000 {
        let work = async |number, _| assert_ne!(number % 2, 1, "odd");
        intake.spawn(Arc::clone(&key), number, work).unwrap();
        yield_now().await;
    }
    // This test's own, and the last unit's.
    assert_eq!(Arc::strong_count(&key), 2);
    let report = workers.shutdown(STOP).await;
    assert_eq!((report.finished, report.panicked_before), (5_000, 5_000));
}

// Drop

#[tokio::test(start_paused = true)]
async fn dropping_the_workers_aborts_the_units_and_says_so() {
    let log = Capture::of("shutdown");
    let _guard = log.start();
    let (workers, intake) = workers();
    let held = Arc::new(());
    intake.spawn(1, Arc::clone(&held), for_ever).unwrap();
    intake.spawn(2, Arc::clone(&held), for_ever).unwrap();
    intake.spawn(3, Duration::ZERO, takes).unwrap();
    sleep(SECOND).await;
    drop(workers);
    assert_eq!(intake.spawn(4, 7, for_ever), Err(Stopped(7)));
    yield_now().await;
    assert_eq!(Arc::strong_count(&held), 1);
    let line = "ERROR workers were dropped before their units had ended aborted=2";
    assert_eq!(log.lines(), [line]);
}

#[tokio::test(start_paused = true)]
async fn a_complete_shutdown_logs_nothing_though_a_unit_runs_on() {
    let log = Capture::of("shutdown");
    let _guard = log.start();
    let (workers, intake) = workers();
    intake.spawn(1, (), for_ever).unwrap();
    let limits = StopLimits {
        abort: Duration::ZERO,
        ..STOP
    };
    let report = workers.shutdown(limits).await;
    assert_eq!(report.still_running, [1], "there was no time for the abort");
    assert!(log.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_shutdown_aborts_the_units_that_are_left() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (workers, intake) = workers();
            let held = Arc::new(());
            let work = async |_held, _| sleep(SECOND).await;
            intake.spawn(1, Arc::clone(&held), work).unwrap();
            intake.spawn(2, Arc::clone(&held), for_ever).unwrap();
            yield_now().await;
            (Some(workers), intake, held)
        },
        async |(workers, ..)| workers.take().unwrap().shutdown(STOP).await,
        async |(_, intake, held), round| {
            assert_eq!(intake.spawn(3, 7, for_ever), Err(Stopped(7)));
            yield_now().await;
            assert_eq!(Arc::strong_count(&held), 1, "a unit lives on");
            if let Round::Completed(report) = round {
                assert_eq!((report.finished, report.aborted), (1, vec![2]));
            }
        },
    )
    .await;
    assert!(points.unwrap() >= 3, "a unit's end, the limit, the abort");
}

// What the page warns of

#[tokio::test(start_paused = true)]
async fn the_wait_of_a_task_tracker_takes_a_panic_for_a_clean_end() {
    let tracker = TaskTracker::new();
    let log = Capture::of("shutdown");
    let _guard = log.start();
    drop(tracker.spawn(async { panic!("lost") }));
    drop(tracker.spawn(sleep(SECOND)));
    tracker.close();
    let () = tracker.wait().await;
    assert_eq!((tracker.len(), log.lines()), (0, vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shutdown_of_a_join_set_waits_for_a_task_that_never_awaits() {
    let spin = Spin::default();
    let mut tasks = JoinSet::new();
    let task = spin.clone();
    tasks.spawn(async move { task.until_released() });
    spin.wait_until_it_spins().await;
    timeout(10 * SHORT.abort, tasks.shutdown())
        .await
        .expect_err("it returned");
    assert!(!spin.has_ended());
    spin.release();
    timeout(LIMIT, tasks.shutdown()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handshake_in_the_accept_loop_takes_its_connection_with_it_at_the_stop() {
    for in_the_unit in [false, true] {
        let stop = CancellationToken::new();
        let workers = Workers::new(&stop);
        let intake = workers.intake();
        let (client, mut listener) = mpsc::channel(10);
        for connection in 0..3 {
            client.try_send(connection).unwrap();
        }
        let handshake = async || sleep(SECOND).await;
        let accept_loop = async {
            loop {
                let accept = async {
                    let connection = listener.recv().await.unwrap();
                    if !in_the_unit {
                        handshake().await;
                    }
                    connection
                };
                let Some(connection) = stop.run_until_cancelled(accept).await else {
                    break;
                };
                let work = move |_, _| async move { handshake().await };
                intake.spawn(connection, connection, work).unwrap();
            }
        };
        let signal = async {
            sleep(3 * SECOND / 2).await;
            stop.cancel();
        };
        tokio::join!(accept_loop, signal);
        let report = workers.shutdown(STOP).await;
        let known = report.finished + listener.len() as u64;
        assert_eq!(known, if in_the_unit { 3 } else { 2 });
    }
}

#[tokio::test]
async fn a_connection_that_waits_to_be_accepted_is_reset_when_the_listener_is_dropped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    drop(listener);
    let read = timeout(LIMIT, client.read_u8()).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn what_a_unit_spawns_by_itself_outlives_the_shutdown_and_with_an_intake_it_does_not() {
    let (workers, intake) = workers();
    let (loose, tracked) = (Arc::new(()), Arc::new(()));
    let inner = intake.clone();
    let parent = move |(loose, tracked), _| async move {
        drop(tokio::spawn(for_ever(loose, CancellationToken::new())));
        inner.spawn("part", tracked, for_ever).unwrap();
    };
    let parts = (Arc::clone(&loose), Arc::clone(&tracked));
    intake.spawn("parent", parts, parent).unwrap();
    sleep(SECOND).await;
    let report = workers.shutdown(STOP).await;
    assert_eq!((report.finished, report.aborted), (1, vec!["part"]));
    assert_eq!(Arc::strong_count(&loose), 2, "it lives on");
    assert_eq!(Arc::strong_count(&tracked), 1);
}

#[test]
fn a_unit_that_never_awaits_delays_the_shutdown_of_a_runtime_with_one_thread() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let spin = Spin::default();
    let task = spin.clone();
    // In a task: block_on has a thread of its own, but the timers are the worker's.
    let stop = runtime.spawn(async move {
        let (workers, intake) = workers();
        let work = async |spin: Spin, _| spin.until_released();
        intake.spawn("spinning", task, work).unwrap();
        workers.shutdown(SHORT).await
    });
    runtime.block_on(spin.wait_until_it_spins());
    let began = Instant::now();
    let releaser = spin.release_in(20 * SHORT.abort);
    let report = runtime.block_on(stop).unwrap();
    assert!(began.elapsed() >= 20 * SHORT.abort, "the limits held");
    assert_eq!(report.finished, 1);
    releaser.join().unwrap();
}

#[test]
fn the_drop_of_a_runtime_waits_for_a_blocking_unit_and_shutdown_background_does_not() {
    for background in [false, true] {
        let runtime = Builder::new_multi_thread().enable_time().build().unwrap();
        let spin = Spin::default();
        let report = runtime.block_on(async {
            let (workers, intake) = workers();
            let block = |spin: Spin, _| spin.until_released();
            intake.spawn_blocking("begun", spin.clone(), block).unwrap();
            spin.wait_until_it_spins().await;
            workers.shutdown(SHORT).await
        });
        assert_eq!(report.still_running, ["begun"]);
        if background {
            runtime.shutdown_background();
            assert!(!spin.has_ended());
            spin.release();
        } else {
            let releaser = spin.release_in(SHORT.abort);
            drop(runtime);
            assert!(spin.is_released(), "it returned while the unit ran");
            releaser.join().unwrap();
        }
    }
}

// Helpers

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
