//! How tasks end, and what a stop tells of it.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use shutdown::abort_tasks::{End, Panic, stop, stop_all};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::task::{JoinHandle, spawn_blocking, yield_now};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

/// Becomes true when it is dropped.
#[derive(Default)]
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A task that waits for ever, and a flag that tells when what it owns is dropped.
async fn waiting() -> (JoinHandle<()>, Arc<AtomicBool>) {
    let gone = Gone::default();
    let flag = Arc::clone(&gone.0);
    let task = tokio::spawn(async move {
        let _gone = gone;
        pending::<()>().await;
    });
    yield_now().await; // it has begun
    (task, flag)
}

#[tokio::test(start_paused = true)]
async fn a_waiting_task_is_cancelled_and_gone_when_stop_returns() {
    let started = Instant::now();
    let (task, gone) = waiting().await;
    let end = stop(task, LIMIT).await.unwrap();
    assert!(matches!(end, End::Cancelled), "{end:?}");
    assert!(gone.load(Ordering::SeqCst));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_had_finished_gives_its_result() {
    for limit in [Duration::ZERO, LIMIT, Duration::MAX] {
        let task = tokio::spawn(async { 7 });
        sleep(MS).await;
        assert!(task.is_finished());
        let end = stop(task, limit).await.unwrap();
        assert!(matches!(end, End::Finished(7)), "{end:?}");
        assert_eq!(end.finished().unwrap(), Some(7));
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_never_ran_is_cancelled_without_running() {
    let ran = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ran);
    let task = tokio::spawn(async move { flag.store(true, Ordering::SeqCst) });
    let end = stop(task, LIMIT).await.unwrap();
    assert!(matches!(end, End::Cancelled), "{end:?}");
    assert!(!ran.load(Ordering::SeqCst));
    assert_eq!(end.finished().unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_told_apart_from_a_cancellation_and_keeps_its_message() {
    let literal = tokio::spawn(async { panic!("out of cheese") });
    let formatted = tokio::spawn(async { panic!("out of {}", "bread") });
    let other = tokio::spawn(async { panic_any(42) });
    sleep(MS).await;
    for (task, message) in [
        (literal, "out of cheese"),
        (formatted, "out of bread"),
        (other, "no message"),
    ] {
        let End::<()>::Panicked(panic) = stop(task, LIMIT).await.unwrap() else {
            panic!("not told as a panic");
        };
        assert_eq!(panic.message, message);
        assert_eq!(panic.to_string(), format!("the task panicked: {message}"));
        assert!(format!("{panic:?}").contains(message));
    }
}

#[tokio::test(start_paused = true)]
async fn the_payload_of_a_panic_can_be_thrown_again() {
    let task: JoinHandle<()> = tokio::spawn(async { panic_any(42) });
    let Panic { payload, .. } = End::from(task.await).finished().unwrap_err();
    let thrown = catch_unwind(AssertUnwindSafe(|| resume_unwind(payload))).unwrap_err();
    assert_eq!(thrown.downcast_ref(), Some(&42));
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_an_aborted_task_is_dropped_is_a_panic() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("while cleaning up");
        }
    }
    let task = tokio::spawn(async {
        let _bomb = Bomb;
        pending::<()>().await;
    });
    yield_now().await;
    let panic = stop(task, LIMIT).await.unwrap().finished().unwrap_err();
    assert_eq!(panic.message, "while cleaning up");
}

/// A blocking task that runs until its sender is dropped, and then returns 7.
fn blocking() -> (std::sync::mpsc::SyncSender<()>, JoinHandle<u8>) {
    let (release, released) = sync_channel::<()>(0);
    let (begun, has_begun) = sync_channel(0);
    let task = spawn_blocking(move || {
        begun.send(()).unwrap();
        released.recv().ok(); // an error is the signal
        7
    });
    has_begun.recv().unwrap();
    (release, task)
}

#[tokio::test]
async fn a_task_that_never_awaits_is_handed_back_at_the_limit() {
    let (release, task) = blocking();
    let still = stop(task, 10 * MS).await.unwrap_err();
    assert_eq!(still.waited, 10 * MS);
    assert!(!still.task.is_finished());
    let message = still.to_string();
    assert!(message.contains("still runs 10ms after"), "{message}");
    drop(release);
    // Nothing is lost: it had not heard of the abort, and its result can still be had.
    let end = End::from(timeout(LIMIT, still.task).await.unwrap());
    assert!(matches!(end, End::Finished(7)), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn many_are_stopped_together_and_told_in_order() {
    let (first, first_gone) = waiting().await;
    let finished = tokio::spawn(async {});
    let panicked = tokio::spawn(async { panic!("out of cheese") });
    let (last, last_gone) = waiting().await;
    let ends = stop_all([first, finished, panicked, last], LIMIT).await;
    let told: Vec<_> = ends.into_iter().map(|end| end.unwrap()).collect();
    assert!(
        matches!(
            told.as_slice(),
            [
                End::Cancelled,
                End::Finished(()),
                End::Panicked(_),
                End::Cancelled
            ]
        ),
        "{told:?}"
    );
    assert!(first_gone.load(Ordering::SeqCst) && last_gone.load(Ordering::SeqCst));
}

#[tokio::test]
async fn one_limit_bounds_all_and_a_stuck_one_does_not_hide_the_others() {
    let (release_one, stuck_one) = blocking();
    let (release_two, stuck_two) = blocking();
    let finished = tokio::spawn(async { 7 });
    yield_now().await;
    let limit = 500 * MS;
    let started = Instant::now();
    let ends = stop_all([stuck_one, stuck_two, finished], limit).await;
    assert!(started.elapsed() < 2 * limit, "{:?}", started.elapsed());
    let waited: Vec<_> = ends[..2]
        .iter()
        .map(|end| end.as_ref().unwrap_err().waited)
        .collect();
    assert_eq!(waited, [limit, limit]);
    assert!(matches!(ends[2], Ok(End::Finished(7))));
    drop((release_one, release_two));
}

#[tokio::test(start_paused = true)]
async fn no_task_and_an_enormous_limit_are_fine() {
    assert!(stop_all::<()>([], Duration::MAX).await.is_empty());
    let (task, _) = waiting().await;
    let end = stop(task, Duration::MAX).await.unwrap();
    assert!(matches!(end, End::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stop_has_aborted_the_task() {
    let setup = async || {
        let (task, gone) = waiting().await;
        (Some(task), gone)
    };
    let operation = async |(task, _): &mut (Option<JoinHandle<()>>, Arc<AtomicBool>)| {
        stop(task.take().unwrap(), LIMIT).await.unwrap();
    };
    let check = async |(_, gone): (_, Arc<AtomicBool>), _: Outcome<()>| {
        sleep(MS).await;
        assert!(gone.load(Ordering::SeqCst));
    };
    let points = every_await_point(LIMIT, setup, operation, check).await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stop_of_many_has_aborted_them_all() {
    type State = (Vec<JoinHandle<()>>, Vec<Arc<AtomicBool>>);
    let setup = async || {
        let mut state: State = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (task, gone) = waiting().await;
            state.0.push(task);
            state.1.push(gone);
        }
        state
    };
    let operation = async |(tasks, _): &mut State| {
        stop_all(tasks.drain(..), LIMIT).await;
    };
    let check = async |(_, flags): State, _: Outcome<()>| {
        sleep(MS).await;
        assert!(flags.iter().all(|gone| gone.load(Ordering::SeqCst)));
    };
    let points = every_await_point(LIMIT, setup, operation, check).await;
    assert!(points.unwrap() >= 3);
}

#[tokio::test(start_paused = true)]
async fn harm_after_abort_the_task_still_holds_what_it_owns() {
    let (task, gone) = waiting().await;
    task.abort();
    assert!(!gone.load(Ordering::SeqCst));
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(gone.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn harm_what_comes_after_the_await_is_not_done() {
    let done = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&done);
    let task = tokio::spawn(async move {
        counter.fetch_add(1, Ordering::SeqCst);
        sleep(MS).await;
        counter.fetch_add(1, Ordering::SeqCst);
    });
    yield_now().await;
    stop(task, LIMIT).await.unwrap();
    sleep(LIMIT).await;
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn harm_a_dropped_handle_stops_nothing() {
    let (task, gone) = waiting().await;
    drop(task.abort_handle());
    drop(task);
    sleep(LIMIT).await;
    assert!(!gone.load(Ordering::SeqCst));
}
