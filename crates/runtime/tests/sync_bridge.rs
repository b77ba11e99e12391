//! What works where, and what the bridge promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use runtime::sync_bridge::{AsyncThread, CallError, call_blocking};
use testing::every_await_point::{Cut, Outcome, every_await_point};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::sleep;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

type Call = fn(&Runtime, &AsyncThread);

/// Each makes one blocking call that could succeed at once. The runtime is a third one, not that
/// of the place it is called from.
#[expect(
    clippy::disallowed_methods,
    reason = "what the disallowed call does is the question"
)]
const CALLS: [(&str, Call); 10] = [
    ("`Handle::block_on`", |other, _| {
        other.handle().block_on(async {});
    }),
    ("`block_in_place`", |_, _| {
        tokio::task::block_in_place(|| {});
    }),
    ("`block_on` in `block_in_place`", |other, _| {
        tokio::task::block_in_place(|| other.handle().block_on(async {}));
    }),
    ("`Sender::blocking_send`", |_, _| {
        mpsc::channel(1).0.blocking_send(()).unwrap_or_default();
    }),
    ("`Receiver::blocking_recv`", |_, _| {
        let (sender, mut receiver) = mpsc::channel::<()>(1);
        drop(sender);
        assert_eq!(receiver.blocking_recv(), None);
    }),
    ("`Mutex::blocking_lock`", |_, _| {
        drop(Mutex::new(()).blocking_lock());
    }),
    ("drop of a `Runtime`", |_, _| {
        drop(Builder::new_current_thread().build());
    }),
    ("`tokio::spawn`", |_, _| drop(tokio::spawn(async {}))),
    ("`spawn_blocking`", |_, _| {
        drop(tokio::task::spawn_blocking(|| {}));
    }),
    ("[`AsyncThread::call`]", |_, bridge| {
        bridge.call(LONG, async {}).unwrap();
    }),
];

const MESSAGES: [&str; 5] = [
    "Cannot start a runtime from within a runtime",
    "can call blocking only when running on the multi-threaded runtime",
    "Cannot block the current thread from within a runtime",
    "Cannot drop a runtime in a context where blocking is not allowed",
    "there is no reactor running, must be called from the context of a Tokio 1.x runtime",
];

/// "works", or "panics: " and the number of the message.
fn outcome(call: impl FnOnce()) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(call)) else {
        return "works".to_owned();
    };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    match MESSAGES
        .iter()
        .position(|message| text.starts_with(message))
    {
        Some(index) => format!("panics: {}", index + 1),
        None => format!("panics with an unknown message: {text}"),
    }
}

#[test]
fn the_table_in_the_documentation_is_what_tokio_does() {
    let page = include_str!("../src/sync_bridge.rs");
    let other = multi_thread();
    let bridge = AsyncThread::start("bridge").unwrap();
    let (multi, current) = (multi_thread(), current_thread());
    for (name, call) in CALLS {
        let at = || outcome(|| call(&other, &bridge));
        let plain = at();
        let entered = {
            let _guard = multi.enter();
            at()
        };
        let in_block_on = multi.block_on(async { at() });
        // The remaining places run on threads of the runtime, so the call moves there.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let in_task = multi.block_on(on_a_worker(call));
                assert_eq!(in_task, in_block_on, "{name}: a task and block_on differ");
            });
        });
        let on_current = current.block_on(async { at() });
        let in_local_task = current.block_on(on_a_worker(call));
        assert_eq!(
            in_local_task, on_current,
            "{name}: a task and block_on differ"
        );
        let in_blocking = multi.block_on(on_a_blocking_thread(call));
        let row = format!(
            "//! | {name} | {plain} | {entered} | {in_block_on} | {on_current} | {in_blocking} |\n"
        );
        assert!(page.contains(&row), "the page has no such row:\n{row}");
    }
    for (index, message) in MESSAGES.iter().enumerate() {
        let line = format!("//! {}. \"{message}\"\n", index + 1);
        assert!(page.contains(&line), "the page has no such line:\n{line}");
    }
    let rows = page
        .lines()
        .filter(|line| line.starts_with("//! | `") || line.starts_with("//! | ["));
    assert_eq!(
        rows.count() + 1,
        CALLS.len(),
        "rows that no call here produces"
    );
}

/// Runtimes for a call to use, made and dropped on a thread where both are allowed.
fn with_other(call: Call) -> String {
    let (other, bridge) = std::thread::scope(|scope| {
        let make = scope.spawn(|| (multi_thread(), AsyncThread::start("bridge").unwrap()));
        make.join().unwrap()
    });
    let outcome = outcome(|| call(&other, &bridge));
    other.shutdown_background();
    outcome
}

async fn on_a_worker(call: Call) -> String {
    tokio::spawn(async move { with_other(call) }).await.unwrap()
}

async fn on_a_blocking_thread(call: Call) -> String {
    tokio::task::spawn_blocking(move || with_other(call))
        .await
        .unwrap()
}

#[test]
fn a_call_runs_timers_and_tasks_and_returns_the_result() {
    let bridge = AsyncThread::start("bridge").unwrap();
    let result = bridge.call(LONG, async {
        sleep(Duration::from_millis(1)).await;
        let task = tokio::spawn(async { std::thread::current().name().map(str::to_owned) });
        task.await.unwrap()
    });
    assert_eq!(result, Ok(Some("bridge".to_owned())));
}

#[test]
fn calls_of_several_threads_run_side_by_side() {
    let bridge = AsyncThread::start("bridge").unwrap();
    let (sender, receiver) = oneshot::channel();
    std::thread::scope(|scope| {
        // The first waits for what the second sends: one after the other, it would time out.
        let first = scope.spawn(|| bridge.call(LONG, receiver));
        let second = scope.spawn(|| bridge.call(LONG, async { sender.send(7) }));
        assert_eq!(second.join().unwrap(), Ok(Ok(())));
        assert_eq!(first.join().unwrap(), Ok(Ok(7)));
    });
}

#[test]
fn a_call_that_takes_too_long_is_an_error_and_its_future_is_dropped() {
    let bridge = AsyncThread::start("bridge").unwrap();
    let (alive, dropped) = oneshot::channel::<()>();
    let result = bridge.call(SHORT, async {
        let _alive = alive;
        sleep(LONG).await;
    });
    assert_eq!(result, Err(CallError::TimedOut(SHORT)));
    assert!(
        bridge.call(LONG, dropped).unwrap().is_err(),
        "the future lives on"
    );
    assert_eq!(
        bridge.call(Duration::MAX, async { 1 }),
        Ok(1),
        "an enormous limit"
    );
}

#[test]
fn a_call_from_the_bridges_own_thread_is_refused_at_once() {
    let bridge = Arc::new(AsyncThread::start("bridge").unwrap());
    let inner = Arc::clone(&bridge);
    // Also in what runs on it as a task.
    let nested = async move {
        let spawned = Arc::clone(&inner);
        let in_task = tokio::spawn(async move { spawned.call(SHORT, async { 1 }) });
        (inner.call(SHORT, async { 1 }), in_task.await.unwrap())
    };
    let own_thread = || Err(CallError::OwnThread);
    assert_eq!(bridge.call(LONG, nested), Ok((own_thread(), own_thread())));
    // Another bridge may be called, and blocking code that runs for this one.
    let (inner, other) = (Arc::clone(&bridge), AsyncThread::start("other").unwrap());
    let elsewhere = async move {
        let blocking = tokio::task::spawn_blocking(move || inner.call(LONG, async { 2 }));
        (other.call(LONG, async { 1 }), blocking.await.unwrap())
    };
    assert_eq!(bridge.call(LONG, elsewhere), Ok((Ok(1), Ok(2))));
}

#[test]
fn a_panic_is_an_error_and_the_thread_lives_on() {
    let bridge = AsyncThread::start("bridge").unwrap();
    let result = bridge.call(LONG, async { panic!("broken") });
    assert_eq!(
        result,
        Err::<(), _>(CallError::Panicked("broken".to_owned()))
    );
    assert_eq!(bridge.call(LONG, async { 1 }), Ok(1));
}

#[test]
fn a_dropped_bridge_drops_what_it_runs_and_may_be_dropped_inside_of_a_runtime() {
    let bridge = AsyncThread::start("bridge").unwrap();
    let (alive, dropped) = oneshot::channel::<()>();
    bridge
        .call(LONG, async {
            tokio::spawn(async {
                let _alive = alive;
                sleep(LONG).await;
            });
        })
        .unwrap();
    current_thread().block_on(async move {
        drop(bridge);
        let ended = tokio::time::timeout(LONG, dropped).await;
        assert!(ended.expect("the task lives on").is_err());
    });
}

#[test]
fn a_name_with_a_nul_byte_is_an_error() {
    let error = AsyncThread::start("a\0b").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn a_call_from_a_task_of_a_current_thread_runtime_stops_everything_there() {
    let bridge = AsyncThread::start("bridge").unwrap();
    let turns = Arc::new(AtomicUsize::new(0));
    current_thread().block_on(async {
        let counter = Arc::clone(&turns);
        tokio::spawn(async move {
            loop {
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        tokio::task::yield_now().await;
        let before = turns.load(Ordering::Relaxed);
        bridge.call(LONG, async { sleep(SHORT).await }).unwrap();
        assert_eq!(
            turns.load(Ordering::Relaxed),
            before,
            "a task had a turn while this blocked"
        );
        // A timer made here belongs to this runtime, although it is awaited on the other.
        assert_eq!(
            bridge.call(SHORT, sleep(Duration::ZERO)),
            Err(CallError::TimedOut(SHORT))
        );
        // And so for ever, if the answer has to come from a task that has no turn.
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move { sender.send(()) });
        assert_eq!(
            bridge.call(SHORT, receiver),
            Err(CallError::TimedOut(SHORT))
        );
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "shows why it is disallowed")]
fn block_in_place_stops_the_other_branches_of_its_task() {
    multi_thread().block_on(async {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let block = async { tokio::task::block_in_place(|| receiver.recv_timeout(SHORT).is_ok()) };
        let send = async { sender.send(()) };
        let (received, _) = tokio::join!(biased; block, send);
        assert!(!received, "the other branch ran while this one blocked");
    });
}

#[test]
fn a_timer_of_a_current_thread_runtime_that_nobody_drives_never_fires() {
    let undriven = current_thread();
    let handle = undriven.handle().clone();
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        handle.block_on(async { sleep(SHORT).await });
        sender.send(()).unwrap();
    });
    assert!(
        receiver.recv_timeout(SHORT * 10).is_err(),
        "the timer fired"
    );
    undriven.block_on(async { sleep(SHORT).await }); // now somebody drives it
    receiver
        .recv_timeout(LONG)
        .expect("and the other thread's timer fires too");
}

#[test]
fn a_timer_made_outside_of_a_runtime_panics_although_it_is_awaited_inside() {
    let runtime = current_thread();
    assert_eq!(
        outcome(|| runtime.block_on(sleep(Duration::ZERO))),
        "panics: 5"
    );
    assert_eq!(
        outcome(|| runtime.block_on(async { sleep(Duration::ZERO).await })),
        "works"
    );
}

#[test]
fn blocking_work_can_await_borrowed_things_and_gets_back_into_the_same_runtime() {
    let result = multi_thread().block_on(call_blocking(|reentry| {
        let text = String::from("borrowed");
        let length = reentry.wait(LONG, async { text.len() })?;
        let spawned = async { tokio::spawn(async { Handle::current().id() }).await };
        let id = reentry.wait(LONG, spawned)?;
        Ok::<_, CallError>((length, id.is_ok_and(|id| id == Handle::current().id())))
    }));
    assert_eq!(result, Ok(Ok((8, true))));
}

#[test]
fn blocking_work_leaves_a_current_thread_runtime_its_turns() {
    current_thread().block_on(async {
        let (sender, mut receiver) = mpsc::channel(1);
        let answering = tokio::spawn(async move { receiver.recv().await });
        let sent = call_blocking(move |reentry| reentry.wait(LONG, sender.send(7))).await;
        assert!(matches!(sent, Ok(Ok(Ok(())))));
        assert_eq!(answering.await.unwrap(), Some(7));
    });
}

#[test]
fn a_wait_has_a_limit_and_a_panic_in_the_work_is_an_error() {
    current_thread().block_on(async {
        let waited = call_blocking(|reentry| reentry.wait(SHORT, sleep(LONG))).await;
        assert_eq!(waited, Ok(Err(CallError::TimedOut(SHORT))));
        let panicked = call_blocking(|_| panic!("broken")).await;
        assert_eq!(
            panicked,
            Err::<(), _>(CallError::Panicked("broken".to_owned()))
        );
    });
}

#[test]
fn work_that_has_not_begun_when_its_call_is_dropped_is_never_run() {
    let mut one_thread = Builder::new_current_thread();
    let one_thread = one_thread
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    one_thread.block_on(async {
        let (busy, free) = std::sync::mpsc::sync_channel::<()>(0);
        let occupies = tokio::spawn(call_blocking(move |_| free.recv().is_err()));
        tokio::task::yield_now().await;
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        let waits = call_blocking(move |_| counter.fetch_add(1, Ordering::Relaxed));
        tokio::time::timeout(SHORT, waits)
            .await
            .expect_err("the only thread is busy");
        drop(busy);
        assert_eq!(occupies.await.unwrap(), Ok(true));
        call_blocking(|_| ()).await.unwrap(); // behind the dropped one in the same queue
        assert_eq!(begun.load(Ordering::Relaxed), 0);
    });
}

#[tokio::test]
async fn work_that_has_begun_when_its_call_is_dropped_runs_on_and_its_waits_end() {
    let (begin, begun) = oneshot::channel();
    let (told, tell) = oneshot::channel();
    let work = call_blocking(move |reentry| {
        begin.send(()).unwrap();
        let now = reentry.wait(LONG, std::future::pending::<()>());
        let later = reentry.wait(LONG, sleep(SHORT));
        told.send((now, later)).unwrap();
    });
    tokio::select! {
        ended = work => panic!("{ended:?}"),
        begun = begun => begun.unwrap(),
    }
    let waits = tell.await.expect("the work runs on");
    assert_eq!(
        waits,
        (Err(CallError::Abandoned), Err(CallError::Abandoned))
    );
}

#[tokio::test]
async fn a_dropped_call_is_never_run_or_cut_short_and_a_completed_one_is_whole() {
    let points = every_await_point(
        LONG,
        async || {
            let (told, tell) = oneshot::channel();
            (Some(told), tell)
        },
        async |(told, _)| {
            let told = told.take().unwrap();
            call_blocking(move |reentry| {
                told.send(reentry.wait(LONG, async { sleep(SHORT).await }))
                    .unwrap();
            })
            .await
            .unwrap();
        },
        async |(_, tell), outcome| match (outcome, tell.await) {
            (Outcome::Completed(()), Ok(Ok(()))) => {}
            // Woken by the end of the work, all its waits were over; by a new budget, they were not.
            (Outcome::Dropped(Cut::Woken(_)), Ok(Ok(()))) => {}
            (Outcome::Dropped(_), Err(_) | Ok(Err(CallError::Abandoned))) => {}
            other => panic!("{other:?}"),
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}
