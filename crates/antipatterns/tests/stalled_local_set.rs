//! When local tasks run, and when they do not.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use antipatterns::stalled_local_set::with_local_state;
use futures_util::FutureExt;
use tasks::local_tasks::local_tasks;
use tokio::sync::mpsc::Sender;
use tokio::task::{LocalSet, yield_now};
use tokio::time::{Instant, advance, sleep, timeout};

const HOUR: Duration = Duration::from_secs(60 * 60);
const LIMIT: Duration = Duration::from_secs(60);

async fn send_all(changes: &Sender<u32>, numbers: std::ops::Range<u32>) {
    for number in numbers {
        changes.send(number).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn harm_what_is_sent_after_the_start_is_not_applied_and_the_eleventh_send_hangs() {
    let applied = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&applied);
    let sent = Cell::new(0);
    let serve = async |changes: &Sender<u32>| {
        for number in 100..200 {
            changes.send(number).await.unwrap();
            sent.set(sent.get() + 1);
        }
    };
    let load = async |changes: &Sender<u32>| {
        send_all(changes, 0..100).await;
        while changes.capacity() < changes.max_capacity() {
            yield_now().await; // until all are taken
        }
    };
    let apply = move |(): &mut (), change| log.borrow_mut().push(change);
    let all = with_local_state((), apply, load, serve);
    timeout(HOUR, all).await.unwrap_err();
    assert_eq!(sent.get(), 10);
    assert_eq!(*applied.borrow(), Vec::from_iter(0..100));
}

/// Moves the clock without an await, as code that computes does.
fn compute(takes: Duration) {
    assert!(advance(takes).now_or_never().is_none(), "it would yield");
}

#[tokio::test(start_paused = true)]
async fn harm_no_local_task_runs_while_another_computes() {
    let local = LocalSet::new();
    let started = Instant::now();
    let timer = local.spawn_local(async move {
        sleep(Duration::from_millis(10)).await;
        started.elapsed()
    });
    local.spawn_local(async { compute(Duration::from_millis(250)) });
    let elapsed = local.run_until(timer).await.unwrap();
    assert!(elapsed >= Duration::from_millis(250), "{elapsed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[expect(
    clippy::disallowed_methods,
    reason = "the question is what it does here"
)]
async fn harm_on_four_workers_all_are_on_one_thread_and_cannot_leave_it() {
    let local = LocalSet::new();
    let here = || std::thread::current().id();
    let tasks = [(); 4].map(|()| local.spawn_local(async move { here() }));
    let blocks = local.spawn_local(async { tokio::task::block_in_place(|| ()) });
    local.await;
    for task in tasks {
        assert_eq!(task.await.unwrap(), here());
    }
    let panic = blocks.await.unwrap_err().into_panic();
    let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
    let expected = "can call blocking only when running on the multi-threaded runtime";
    assert_eq!(message.as_deref(), Some(expected));
}

#[tokio::test]
async fn mended_a_thread_of_its_own_applies_whatever_its_callers_await() {
    let (tell, told) = sync_channel(1);
    let apply = async move |log: &RefCell<Vec<u32>>, change: u32| {
        sleep(Duration::from_millis(1)).await;
        log.borrow_mut().push(change);
        if change == 199 {
            tell.send(()).unwrap();
        }
        log.borrow().len()
    };
    let limit = NonZeroUsize::new(10).unwrap();
    let (state, thread) = local_tasks(limit, RefCell::default, apply).await.unwrap();
    for change in 0..199 {
        state.call(change).await.unwrap();
    }
    let mut last = Box::pin(state.call(199));
    assert!((&mut last).now_or_never().is_none(), "it is sent");
    // This thread awaits nothing now, and the change is applied all the same.
    assert_eq!(told.recv_timeout(LIMIT), Ok(()));
    assert_eq!(last.await, Ok(200));
    thread.stop().await.unwrap();
}
