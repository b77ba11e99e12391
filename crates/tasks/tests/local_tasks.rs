//! What local tasks promise. On real time: their thread has a clock of its own.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use futures_util::future::try_join_all;
use tasks::local_tasks::{CallError, local_tasks};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::sync::{Barrier, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

fn at_once(limit: usize) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(limit - 1)
}

/// An error instead of a hang.
async fn soon<T>(future: impl Future<Output = T>) -> Result<T, Elapsed> {
    timeout(LIMIT, future).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_other_threads_share_state_that_is_not_send() {
    let add = async |sum: &Rc<Cell<u32>>, number| {
        sum.set(sum.get() + number);
        yield_now().await;
        sum.get()
    };
    let (sum, _thread) = local_tasks(at_once(8), Rc::default, add).await.unwrap();
    let callers: Vec<_> = (1..=100)
        .map(|number| {
            let sum = sum.clone();
            tokio::spawn(async move { sum.call(number).await })
        })
        .collect();
    for caller in callers {
        soon(caller).await.unwrap().unwrap().unwrap();
    }
    assert_eq!(soon(sum.call(0)).await.unwrap(), Ok(5050));
}

#[tokio::test]
async fn jobs_wait_side_by_side() {
    let meet = async |barrier: &Barrier, ()| barrier.wait().await.is_leader();
    let (meet, _thread) = local_tasks(at_once(3), || Barrier::new(3), meet)
        .await
        .unwrap();
    let leaders = soon(try_join_all((0..3).map(|_| meet.call(()))))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(leaders.into_iter().filter(|leads| *leads).count(), 1);
}

#[tokio::test]
async fn no_more_jobs_than_the_limit_are_under_way() {
    let work = async |running: &Cell<usize>, ()| {
        running.set(running.get() + 1);
        let seen = running.get();
        for _ in 0..100 {
            yield_now().await; // time enough for a job too many to begin
        }
        running.set(running.get() - 1);
        seen
    };
    let (jobs, _thread) = local_tasks(at_once(3), Cell::default, work).await.unwrap();
    let seen = soon(try_join_all((0..20).map(|_| jobs.call(()))))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(seen.into_iter().max(), Some(3));
}

#[tokio::test]
async fn a_panic_is_the_callers_answer_and_the_others_go_on_with_what_it_left() {
    let transfer = async |accounts: &Cell<(u32, u32)>, amount: u32| {
        let (from, to) = accounts.get();
        accounts.set((from - amount, to));
        yield_now().await;
        assert_ne!(amount, 7, "not seven");
        accounts.set((accounts.get().0, to + amount));
        accounts.get()
    };
    let (bank, _thread) = local_tasks(at_once(1), || Cell::new((100, 0)), transfer)
        .await
        .unwrap();
    assert_eq!(soon(bank.call(10)).await.unwrap(), Ok((90, 10)));
    let Err(CallError::Panicked { message }) = soon(bank.call(7)).await.unwrap() else {
        panic!("seven was taken");
    };
    assert!(message.contains("not seven"), "{message}");
    // Seven have left one account and not come to the other.
    assert_eq!(soon(bank.call(0)).await.unwrap(), Ok((83, 10)));
}

#[tokio::test]
async fn a_borrow_kept_across_an_await_panics_in_the_next_task_that_borrows() {
    let (borrows, mut has_borrowed) = mpsc::channel(2);
    #[expect(
        clippy::await_holding_refcell_ref,
        reason = "this is the harm that is shown"
    )]
    let careless = async move |names: &RefCell<Vec<u8>>, go_on: oneshot::Receiver<()>| {
        let mut names = names.borrow_mut();
        borrows.send(()).await.unwrap();
        go_on.await.unwrap();
        names.push(1);
    };
    let (names, _thread) = local_tasks(at_once(2), RefCell::default, careless)
        .await
        .unwrap();
    let ((ends_first, first), (_ends_second, second)) = (oneshot::channel(), oneshot::channel());
    let others = names.clone();
    let first = tokio::spawn(async move { others.call(first).await });
    soon(has_borrowed.recv()).await.unwrap();
    let second = soon(names.call(second)).await.unwrap();
    let Err(CallError::Panicked { message }) = second else {
        panic!("{second:?}");
    };
    assert!(message.contains("already borrowed"), "{message}");
    ends_first.send(()).unwrap();
    assert_eq!(soon(first).await.unwrap().unwrap(), Ok(()));
}

#[tokio::test]
async fn a_job_that_blocks_keeps_the_others_from_their_turn() {
    let (turn, had_a_turn) = sync_channel(1);
    let had_a_turn = std::sync::Mutex::new(had_a_turn);
    let work = async move |_: &(), blocks: bool| {
        if blocks {
            let other = had_a_turn.lock().unwrap();
            return other.recv_timeout(Duration::from_millis(200))
                == Err(RecvTimeoutError::Timeout);
        }
        turn.send(()).is_ok()
    };
    let (jobs, _thread) = local_tasks(at_once(2), || (), work).await.unwrap();
    let (blocked, other) = soon(async { tokio::join!(jobs.call(true), jobs.call(false)) })
        .await
        .unwrap();
    assert_eq!(blocked, Ok(true), "the other had a turn in those 200 ms");
    assert_eq!(other, Ok(true));
}

/// Sends when it is dropped.
struct TellsDrop(mpsc::Sender<()>);

impl Drop for TellsDrop {
    fn drop(&mut self) {
        self.0.try_send(()).unwrap_or_default();
    }
}

#[tokio::test]
async fn a_dropped_call_stops_its_task() {
    let (dropped, mut is_dropped) = mpsc::channel(1);
    let (started, mut has_started) = mpsc::channel(1);
    let work = async move |_: &(), ()| {
        let _dropped = TellsDrop(dropped.clone());
        started.try_send(()).unwrap();
        pending::<()>().await;
    };
    let (jobs, _thread) = local_tasks(at_once(1), || (), work).await.unwrap();
    tokio::select! {
        never = jobs.call(()) => panic!("{never:?}"),
        started = has_started.recv() => started.unwrap(),
    }
    soon(is_dropped.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_dropped_while_it_waits_for_its_turn_is_never_begun() {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let work = async move |_: &(), wait: Option<oneshot::Receiver<()>>| {
        count.fetch_add(1, Ordering::SeqCst);
        if let Some(wait) = wait {
            wait.await.unwrap();
        }
    };
    let (jobs, _thread) = local_tasks(at_once(1), || (), work).await.unwrap();
    for round in 1..=20 {
        let (go_on, wait) = oneshot::channel();
        let others = jobs.clone();
        let first = tokio::spawn(async move { others.call(Some(wait)).await });
        while begun.load(Ordering::SeqCst) < 2 * round - 1 {
            yield_now().await;
        }
        for _ in 0..3 {
            let impatient = timeout(Duration::from_millis(1), jobs.call(None));
            impatient.await.expect_err("the only place is taken");
        }
        go_on.send(()).unwrap();
        soon(first).await.unwrap().unwrap().unwrap();
        soon(jobs.call(None)).await.unwrap().unwrap();
        assert_eq!(
            begun.load(Ordering::SeqCst),
            2 * round,
            "the first and the last"
        );
    }
}

#[tokio::test]
async fn stopping_waits_until_tasks_and_state_are_gone_and_ends_the_calls() {
    let gone = Arc::new(AtomicBool::new(false));
    struct State(Arc<AtomicBool>);
    impl Drop for State {
        fn drop(&mut self) {
            std::thread::yield_now();
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let state = State(Arc::clone(&gone));
    let (started, mut has_started) = mpsc::channel(2);
    let work = async move |_: &State, ()| {
        started.try_send(()).unwrap();
        pending::<()>().await;
    };
    let (jobs, thread) = local_tasks(at_once(2), move || state, work).await.unwrap();
    let callers = [jobs.clone(), jobs.clone(), jobs.clone()]
        .map(|jobs| tokio::spawn(async move { jobs.call(()).await }));
    soon(has_started.recv()).await.unwrap().unwrap();
    soon(has_started.recv()).await.unwrap().unwrap();
    soon(thread.stop()).await.unwrap().unwrap();
    assert!(gone.load(Ordering::SeqCst));
    for caller in callers {
        assert_eq!(
            soon(caller).await.unwrap().unwrap(),
            Err(CallError::Stopped)
        );
    }
    assert_eq!(soon(jobs.call(())).await.unwrap(), Err(CallError::Stopped));
}

#[tokio::test]
async fn dropping_the_thread_or_every_caller_ends_it() {
    for drop_the_thread in [true, false] {
        let (dropped, mut is_dropped) = mpsc::channel(1);
        let state = move || TellsDrop(dropped);
        let (jobs, thread) = local_tasks(at_once(1), state, async |_, ()| ())
            .await
            .unwrap();
        if drop_the_thread {
            drop(thread);
            soon(is_dropped.recv()).await.unwrap().unwrap();
            drop(jobs);
        } else {
            drop(jobs);
            soon(is_dropped.recv()).await.unwrap().unwrap();
            soon(thread.stop()).await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_panic_while_the_state_is_made_is_the_error_of_the_start() {
    let state = || -> () { panic!("no disk") };
    let started = soon(local_tasks(at_once(1), state, async |(), ()| ()))
        .await
        .unwrap();
    assert_eq!(started.unwrap_err().to_string(), "no disk");
}

#[tokio::test]
async fn a_panic_while_the_state_is_dropped_is_the_error_of_the_stop() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("not flushed");
        }
    }
    let (started, mut has_started) = mpsc::channel(1);
    let work = async move |_: &Bomb, ()| {
        started.try_send(()).unwrap();
        pending::<()>().await;
    };
    let (jobs, thread) = local_tasks(at_once(1), || Bomb, work).await.unwrap();
    // A task is under way: what it drops must not be the last of the state, or the panic is its.
    let caller = tokio::spawn(async move { jobs.call(()).await });
    soon(has_started.recv()).await.unwrap().unwrap();
    let stopped = soon(thread.stop()).await.unwrap();
    assert_eq!(stopped.unwrap_err().to_string(), "not flushed");
    assert_eq!(
        soon(caller).await.unwrap().unwrap(),
        Err(CallError::Stopped)
    );
}

#[tokio::test]
async fn an_enormous_limit_is_no_panic() {
    let (jobs, _thread) = local_tasks(NonZeroUsize::MAX, || (), async |(), job: u8| job)
        .await
        .unwrap();
    assert_eq!(soon(jobs.call(7)).await.unwrap(), Ok(7));
}

#[tokio::test]
async fn a_call_dropped_at_any_await_point_leaves_no_job_under_way() {
    /// Counts the jobs under way.
    struct Running<'a>(&'a Cell<usize>);
    impl Drop for Running<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    let work = async |running: &Cell<usize>, ask: bool| {
        if ask {
            return running.get();
        }
        running.set(running.get() + 1);
        let _running = Running(running);
        for _ in 0..10 {
            yield_now().await;
        }
        running.get()
    };
    let points = every_await_point(
        LIMIT,
        async || local_tasks(at_once(2), Cell::default, work).await.unwrap(),
        async |(jobs, _)| soon(jobs.call(false)).await.unwrap().unwrap(),
        async |(jobs, thread), round| {
            if let Outcome::Completed(running) = round {
                assert_eq!(running, 1);
            }
            let none_running = async { while jobs.call(true).await != Ok(0) {} };
            timeout(LIMIT / 2, none_running)
                .await
                .expect("a job runs on");
            soon(thread.stop()).await.unwrap().unwrap();
        },
    );
    // The send, and mostly the wait for the answer too: that is up to the other thread.
    assert!(points.await.unwrap() >= 1);
}
