//! What the watchdog sees, and what the metrics do not say.
//!
//! Real threads and the real clock, so a stall may be told a second late on a busy machine; nothing
//! else is asserted of how long something took. What blocks a runtime is released by the report, or by
//! the test after it has seen what it waits for.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use observability::runtime_metrics::{Event, Report, Settings, Snapshot, Watchdog};
use testing::capture_events::Capture;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::yield_now;
use tokio::time::sleep;

/// What a test waits for comes long before, or never.
const NEVER: Duration = Duration::from_secs(60);
const PERIOD: Duration = Duration::from_millis(5);
/// An idle runtime must answer within it on a busy machine.
const LIMIT: Duration = Duration::from_millis(300);

const SETTINGS: Settings = Settings {
    period: PERIOD,
    limit: LIMIT,
};
const PATIENT: Settings = Settings {
    period: PERIOD,
    limit: NEVER,
};

fn workers(number: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(number)
        .enable_time()
        .build()
        .unwrap()
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn watch(runtime: &Runtime, settings: Settings) -> (Watchdog, Receiver<Report>) {
    let (told, reports) = sync_channel(100);
    let told = move |report| told.try_send(report).unwrap();
    let watchdog = Watchdog::start("api", runtime.handle().clone(), settings, told);
    (watchdog.unwrap(), reports)
}

#[track_caller]
fn next(reports: &Receiver<Report>) -> Report {
    reports.recv_timeout(NEVER).unwrap()
}

/// Blocks so many workers until the returned ends are dropped.
fn block(runtime: &Handle, number: usize) -> Vec<SyncSender<()>> {
    let block = |_| {
        let (end, ended) = sync_channel(1);
        let begun = Arc::new(Barrier::new(2));
        let begins = Arc::clone(&begun);
        runtime.spawn(async move {
            begins.wait();
            assert_eq!(
                ended.recv_timeout(NEVER),
                Err(RecvTimeoutError::Disconnected)
            );
        });
        // This thread is no worker. One after the other, since a worker may take two at once.
        begun.wait();
        end
    };
    (0..number).map(block).collect()
}

/// Lets real time pass, for what must not change meanwhile.
fn pass(time: Duration) {
    one_thread().block_on(async { sleep(time).await });
}

/// Waits until the watchdog has had so many further signs of life.
fn signs(watchdog: &Watchdog, further: u64) {
    let so_far = watchdog.signs_of_life();
    let waiting = one_thread();
    waiting.block_on(async {
        let wait = async {
            while watchdog.signs_of_life() < so_far + further {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(NEVER, wait).await.unwrap();
    });
}

#[test]
fn a_stall_of_the_only_thread_is_told_while_it_lasts_and_its_end_after() {
    let runtime = one_thread();
    let (_watchdog, reports) = watch(&runtime, SETTINGS);
    runtime.block_on(async {
        for _ in 0..3 {
            tokio::spawn(std::future::pending::<()>());
        }
        sleep(PERIOD).await;
        let stalled = next(&reports); // this blocks, until it is told
        assert_eq!(&*stalled.runtime, "api");
        let Event::Stalled(waited, held) = &stalled.event else {
            panic!("{stalled}");
        };
        assert!(*waited >= LIMIT, "{waited:?}");
        assert_eq!(*held, [0]);
        let metrics = &stalled.metrics;
        // The three, and the question, which nobody has taken from the queue.
        assert_eq!((metrics.alive_tasks, metrics.queued), (4, 1));
        let line = stalled.to_string();
        assert!(
            line.starts_with("runtime api: no task has run for "),
            "{line}"
        );
        let end = "held workers: [0] (4 tasks alive, 1 queued)";
        assert!(line.ends_with(end), "{line}");
        yield_now().await;
        sleep(PERIOD).await;
        let recovered = next(&reports);
        let Event::Recovered(lasted) = &recovered.event else {
            panic!("{recovered}");
        };
        assert!(lasted >= waited);
        assert_eq!(recovered.metrics.queued, 0);
    });
}

#[test]
fn a_stall_is_told_at_the_limit_and_not_at_twice_the_limit() {
    let runtime = one_thread(); // which nobody runs
    let limit = Duration::from_secs(1);
    let (_watchdog, reports) = watch(&runtime, Settings { limit, ..SETTINGS });
    let stalled = next(&reports);
    assert!(
        matches!(stalled.event, Event::Stalled(waited, _) if (limit..2 * limit).contains(&waited)),
        "{stalled}"
    );
}

#[test]
fn a_runtime_whose_workers_are_all_blocked_is_stalled_and_each_is_named() {
    let runtime = workers(3);
    let (watchdog, reports) = watch(&runtime, SETTINGS);
    let ends = block(runtime.handle(), 3);
    let stalled = next(&reports);
    let Event::Stalled(_, held) = &stalled.event else {
        panic!("{stalled}");
    };
    assert_eq!(*held, [0, 1, 2]);
    assert_eq!(stalled.metrics.alive_tasks, 4);
    // Unless a worker has taken the question along with what blocks it.
    assert!(stalled.metrics.queued <= 1);
    drop(ends);
    assert!(matches!(next(&reports).event, Event::Recovered(_)));
    signs(&watchdog, 10);
    assert_eq!(reports.try_iter().count(), 0, "told once");
}

#[test]
fn one_held_worker_is_told_while_the_others_answer() {
    let runtime = workers(3);
    let (watchdog, reports) = watch(&runtime, SETTINGS);
    let end = block(runtime.handle(), 1);
    let told = next(&reports);
    let Event::WorkerHeld(worker, lasted) = told.event else {
        panic!("{told}");
    };
    assert!(worker < 3 && lasted >= LIMIT, "{told}");
    assert!(!told.metrics.workers[worker].parked);
    let line = format!("runtime api: worker {worker} has been at one task for ");
    assert!(told.to_string().starts_with(&line), "{told}");
    signs(&watchdog, 10);
    assert_eq!(reports.try_iter().count(), 0, "told once, and no stall");
    drop(end);
    let free = next(&reports);
    let Event::WorkerFree(free, longer) = free.event else {
        panic!("{free}");
    };
    assert_eq!(free, worker);
    assert!(longer >= lasted);
    signs(&watchdog, 10);
    assert_eq!(reports.try_iter().count(), 0, "told once");
}

#[test]
fn a_held_worker_is_told_as_free_though_there_was_a_stall_in_between() {
    let runtime = workers(2);
    let (_watchdog, reports) = watch(&runtime, SETTINGS);
    let first = block(runtime.handle(), 1);
    let held = next(&reports).event;
    let Event::WorkerHeld(worker, lasted) = held else {
        panic!("{held:?}");
    };
    let second = block(runtime.handle(), 1);
    assert!(matches!(next(&reports).event, Event::Stalled(_, held) if held == [0, 1]));
    drop(second);
    assert!(matches!(next(&reports).event, Event::Recovered(_)));
    drop(first);
    let free = next(&reports).event;
    assert!(matches!(free, Event::WorkerFree(it, longer) if it == worker && longer > lasted));
}

#[test]
fn a_worker_that_is_still_held_after_the_stall_is_told_after_a_limit_of_its_own() {
    let runtime = workers(2);
    let (_watchdog, reports) = watch(&runtime, SETTINGS);
    let mut ends = block(runtime.handle(), 2);
    assert!(matches!(next(&reports).event, Event::Stalled(..)));
    ends.pop();
    let recovered = next(&reports);
    assert!(
        matches!(recovered.event, Event::Recovered(..)),
        "{recovered}"
    );
    let held = next(&reports);
    assert!(matches!(held.event, Event::WorkerHeld(..)), "{held}");
    assert!(held.metrics.at - recovered.metrics.at >= LIMIT);
}

#[test]
fn what_is_within_the_limit_is_not_told() {
    let runtime = workers(2);
    let (watchdog, reports) = watch(&runtime, PATIENT);
    let end = block(runtime.handle(), 1); // and the other worker is idle
    signs(&watchdog, 20);
    let both = block(runtime.handle(), 1);
    let so_far = watchdog.signs_of_life();
    runtime.spawn(async {});
    drop((end, both));
    signs(&watchdog, 20);
    assert!(watchdog.signs_of_life() >= so_far + 20);
    assert_eq!(reports.try_iter().count(), 0);
}

#[test]
fn a_worker_is_held_from_when_it_was_last_seen_otherwise() {
    let runtime = workers(2);
    let settings = Settings {
        limit: Duration::from_secs(2),
        ..SETTINGS
    };
    let (watchdog, reports) = watch(&runtime, settings);
    pass(settings.limit); // it does not count
    let end = block(runtime.handle(), 1);
    signs(&watchdog, 3);
    drop(end);
    signs(&watchdog, 3);
    assert_eq!(reports.try_iter().count(), 0);
}

#[test]
fn a_runtime_with_too_much_to_do_is_stalled_and_no_worker_stuck() {
    // One that looks at its metrics after each task, and hardly ever at what comes from outside.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .event_interval(1)
        .global_queue_interval(u32::MAX)
        .build()
        .unwrap();
    let (_watchdog, reports) = watch(&runtime, SETTINGS);
    let busy = runtime.spawn(async {
        for _ in 0..2 {
            tokio::spawn(async {
                loop {
                    yield_now().await;
                }
            });
        }
    });
    let stalled = next(&reports);
    assert!(
        matches!(&stalled.event, Event::Stalled(_, held) if held.is_empty()),
        "{stalled}"
    );
    drop(busy);
}

#[test]
fn a_worker_that_is_stuck_soon_after_the_question_is_named() {
    // It looks at its metrics after each task, and at the question only when it has no other.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .event_interval(1)
        .global_queue_interval(u32::MAX)
        .enable_time()
        .build()
        .unwrap();
    let (begun, has_begun) = sync_channel(1);
    let (end, ended) = sync_channel(1);
    let sticks = async move {
        begun.send(()).unwrap();
        while Handle::current().metrics().global_queue_depth() == 0 {
            yield_now().await;
        }
        yield_now().await; // it is back once more
        assert_eq!(
            ended.recv_timeout(NEVER),
            Err(RecvTimeoutError::Disconnected)
        );
    };
    runtime.spawn(sticks);
    has_begun.recv_timeout(NEVER).unwrap(); // or the question might be taken along with it
    let (_watchdog, reports) = watch(&runtime, SETTINGS);
    let stalled = next(&reports);
    assert!(
        matches!(&stalled.event, Event::Stalled(_, held) if *held == [0]),
        "{stalled}"
    );
    drop::<SyncSender<()>>(end);
}

#[test]
fn idle_and_busy_workers_are_not_held() {
    let runtime = workers(4);
    let (watchdog, reports) = watch(&runtime, SETTINGS);
    let busy = runtime.spawn(async {
        loop {
            yield_now().await; // comes back from each poll, and never sleeps
        }
    });
    let earlier = Snapshot::of(&runtime.metrics());
    signs(&watchdog, 70); // the limit is sixty periods
    let change = Snapshot::of(&runtime.metrics()).since(&earlier);
    assert!(
        change
            .workers
            .iter()
            .any(|it| it.parks == 0 && !it.held && it.busy > PERIOD)
    );
    busy.abort();
    assert_eq!(reports.try_iter().count(), 0);
}

#[test]
fn one_question_is_open_at_a_time_however_long_the_stall() {
    let runtime = workers(1);
    let settings = Settings {
        period: Duration::ZERO,
        limit: Duration::from_millis(1),
    };
    let (_watchdog, _reports) = watch(&runtime, settings);
    let end = block(runtime.handle(), 1);
    let alive = || runtime.metrics().num_alive_tasks();
    while alive() < 2 {
        pass(Duration::from_millis(1)); // until it has asked
    }
    pass(PERIOD * 10);
    assert_eq!(alive(), 2, "what blocks, and the question");
    drop(end);
}

#[test]
fn questions_that_follow_at_once_are_all_answered() {
    let runtime = workers(2);
    let settings = Settings {
        period: Duration::ZERO,
        limit: NEVER,
    };
    let (watchdog, reports) = watch(&runtime, settings);
    signs(&watchdog, 5000); // of which none is taken for the runtime's end
    assert_eq!(reports.try_iter().count(), 0);
}

#[test]
fn a_dropped_watchdog_asks_and_tells_no_more_and_its_thread_ends() {
    let runtime = one_thread(); // which nobody runs
    let (watchdog, reports) = watch(&runtime, SETTINGS);
    assert!(matches!(next(&reports).event, Event::Stalled(..)));
    drop(watchdog);
    // The thread drops the report's closure, without a report.
    assert_eq!(
        reports.recv_timeout(NEVER),
        Err(RecvTimeoutError::Disconnected)
    );

    let runtime = workers(1);
    let (watchdog, reports) = watch(&runtime, PATIENT);
    drop(watchdog);
    assert_eq!(
        reports.recv_timeout(NEVER),
        Err(RecvTimeoutError::Disconnected)
    );
}

#[test]
fn a_watchdog_dropped_while_it_waits_for_the_answer_tells_nothing() {
    let runtime = one_thread();
    let (watchdog, reports) = watch(&runtime, PATIENT);
    while runtime.metrics().global_queue_depth() == 0 {
        pass(Duration::from_millis(1)); // until it has asked
    }
    drop(watchdog);
    assert_eq!(
        reports.recv_timeout(NEVER),
        Err(RecvTimeoutError::Disconnected)
    );
}

#[test]
fn the_end_of_the_runtime_is_the_last_report() {
    for settings in [SETTINGS, PATIENT] {
        let runtime = workers(1);
        let (watchdog, reports) = watch(&runtime, settings);
        signs(&watchdog, 1);
        drop(runtime);
        let ended = next(&reports);
        assert_eq!(ended.event, Event::Ended);
        assert!(ended.to_string().contains("has shut down"), "{ended}");
        assert_eq!(
            reports.recv_timeout(NEVER),
            Err(RecvTimeoutError::Disconnected)
        );
    }
    // In the middle of a stall: it has not recovered.
    let runtime = one_thread();
    let (watchdog, reports) = watch(&runtime, SETTINGS);
    assert!(matches!(next(&reports).event, Event::Stalled(..)));
    drop(runtime);
    assert_eq!(next(&reports).event, Event::Ended);
    assert_eq!(watchdog.signs_of_life(), 0);
}

#[test]
fn a_report_that_panics_is_an_event_and_the_watch_goes_on() {
    let capture = Capture::of("observability");
    tracing::dispatcher::set_global_default(capture.dispatch()).unwrap(); // no other test has one
    let runtime = one_thread();
    let (told, reports) = sync_channel(10);
    let mut calls = 0;
    let report = move |report: Report| {
        calls += 1;
        told.send(report.event).unwrap();
        assert!(calls > 1, "the first one panics");
    };
    let _watchdog = Watchdog::start("api", runtime.handle().clone(), SETTINGS, report).unwrap();
    assert!(matches!(
        reports.recv_timeout(NEVER),
        Ok(Event::Stalled(..))
    ));
    drop(runtime);
    assert_eq!(reports.recv_timeout(NEVER), Ok(Event::Ended));
    let lines = capture.lines();
    assert_eq!(lines.len(), 1);
    let begin = "ERROR the watchdog's report panicked: runtime api: no task has run for ";
    assert!(lines[0].starts_with(begin), "{lines:?}");
}

#[test]
fn a_watchdog_dropped_by_its_own_report_ends() {
    let runtime = one_thread();
    let (give, given) = sync_channel::<Watchdog>(1);
    let (told, reports) = sync_channel(10);
    let report = move |report: Report| {
        drop(given.recv_timeout(NEVER));
        told.send(report.event).unwrap();
    };
    let watchdog = Watchdog::start("api", runtime.handle().clone(), SETTINGS, report).unwrap();
    give.send(watchdog).unwrap();
    assert!(matches!(
        reports.recv_timeout(NEVER),
        Ok(Event::Stalled(..))
    ));
    assert_eq!(
        reports.recv_timeout(NEVER),
        Err(RecvTimeoutError::Disconnected)
    );
}

#[test]
fn a_snapshot_counts_tasks_queue_and_workers_and_their_difference_is_the_periods() {
    let runtime = one_thread();
    let earlier = Snapshot::of(&runtime.metrics());
    assert_eq!(
        (earlier.alive_tasks, earlier.queued, earlier.workers.len()),
        (0, 0, 1)
    );
    runtime.block_on(async {
        for _ in 0..5 {
            sleep(Duration::from_millis(1)).await;
        }
    });
    let slept = Snapshot::of(&runtime.metrics());
    let change = slept.since(&earlier);
    assert!(change.over >= Duration::from_millis(5));
    assert!(
        change.workers[0].parks >= 5 && !change.workers[0].held,
        "{change:?}"
    );

    let nothing = slept.since(&slept);
    assert_eq!(nothing.workers[0].parks, 0, "and not since the start");

    let tasks: Vec<_> = (0..3).map(|_| runtime.spawn(async {})).collect();
    let waiting = Snapshot::of(&runtime.metrics());
    assert_eq!((waiting.alive_tasks, waiting.queued), (3, 3));
    assert!(!waiting.workers[0].parked);
    assert_eq!(waiting.since(&slept).workers[0].busy, Duration::ZERO);
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
    let done = Snapshot::of(&runtime.metrics());
    assert_eq!((done.alive_tasks, done.queued), (0, 0));
    // The other way round: nothing, and no panic.
    assert_eq!(earlier.since(&done).workers[0].parks, 0);
    assert_eq!(earlier.since(&done).over, Duration::ZERO);
}

#[test]
fn a_sleeping_worker_is_parked_and_a_blocked_one_is_not() {
    let runtime = workers(1);
    let parked = || Snapshot::of(&runtime.metrics()).workers[0].parked;
    let later = one_thread();
    later.block_on(async {
        while !parked() {
            sleep(Duration::from_millis(1)).await;
        }
    });
    let _end = block(runtime.handle(), 1);
    assert!(!parked());
}

// ------------------------------------------------------------------------------ what does harm

#[test]
fn harm_a_runtime_does_not_see_its_own_stall() {
    let runtime = one_thread();
    let (_watchdog, reports) = watch(&runtime, SETTINGS);
    let (ticked, ticks) = sync_channel(1000);
    runtime.block_on(async {
        tokio::spawn(async move {
            let mut period = tokio::time::interval(PERIOD);
            loop {
                period.tick().await;
                ticked.send(()).unwrap();
            }
        });
        sleep(PERIOD * 3).await;
        assert!(ticks.try_iter().count() > 0);
        assert!(matches!(next(&reports).event, Event::Stalled(..)));
        assert_eq!(ticks.try_iter().count(), 0, "in sixty periods");
    });
}

#[test]
fn harm_a_blocked_worker_looks_idle_until_it_comes_back() {
    let runtime = workers(1);
    let end = block(runtime.handle(), 1);
    let earlier = Snapshot::of(&runtime.metrics());
    pass(PERIOD * 10);
    let change = Snapshot::of(&runtime.metrics()).since(&earlier);
    assert_eq!(change.workers[0].busy, Duration::ZERO);
    assert!(change.workers[0].held);
    drop(end);
    one_thread().block_on(async {
        let busy = || Snapshot::of(&runtime.metrics()).since(&earlier).workers[0].busy;
        while busy() == Duration::ZERO {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(busy() >= PERIOD * 10, "all of it at once");
    });
}

#[test]
fn harm_the_queue_of_a_worker_is_not_in_the_depth() {
    let runtime = workers(1);
    let depth = runtime.spawn(async {
        let tasks: Vec<_> = (0..100).map(|_| tokio::spawn(async {})).collect();
        let depth = Handle::current().metrics().global_queue_depth();
        for task in tasks {
            task.await.unwrap();
        }
        depth
    });
    assert_eq!(runtime.block_on(depth).unwrap(), 0, "of a hundred");
}

#[test]
fn harm_nobody_sees_the_future_of_block_on_block() {
    let runtime = workers(1);
    let (watchdog, reports) = watch(&runtime, SETTINGS);
    let so_far = watchdog.signs_of_life();
    runtime.block_on(async {
        // No await: it holds the thread until the watchdog has had its signs.
        while watchdog.signs_of_life() < so_far + 70 {
            std::thread::yield_now();
        }
    });
    assert_eq!(
        reports.try_iter().count(),
        0,
        "in seventy periods, the limit is sixty"
    );
}

#[test]
fn harm_a_runtime_that_nobody_runs_is_told_as_stalled() {
    let runtime = one_thread();
    let (_watchdog, reports) = watch(&runtime, SETTINGS);
    assert!(matches!(next(&reports).event, Event::Stalled(..)));
    runtime.block_on(async { sleep(PERIOD * 10).await });
    assert!(matches!(next(&reports).event, Event::Recovered(..)));
}
