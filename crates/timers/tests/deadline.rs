//! What a deadline promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::Cell;
use std::error::Error;
use std::future::{pending, ready};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, poll};
use testing::every_await_point::{Outcome, every_await_point};
use timers::deadline::{Deadline, DeadlineError};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, consume_budget, yield_now};
use tokio::time::{Instant, advance, sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

const LIMIT: Duration = Duration::from_secs(60);

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Moves the clock without an await that waits, as code that computes or blocks does.
async fn compute(takes: Duration) {
    assert!(poll!(pin!(advance(takes))).is_pending(), "it would yield");
}

#[tokio::test(start_paused = true)]
async fn work_that_is_done_in_time_gives_its_result() {
    let started = Instant::now();
    let deadline = Deadline::within("request", ms(100));
    let work = async {
        sleep(ms(99)).await;
        7
    };
    assert_eq!(deadline.run("work", work).await, Ok(7));
    assert_eq!(started.elapsed(), ms(99));
}

#[tokio::test(start_paused = true)]
async fn work_that_is_late_is_dropped_at_the_deadline_and_the_error_says_whose_limit_it_was() {
    let started = Instant::now();
    let owned = Arc::new(());
    let held = Arc::clone(&owned);
    let deadline = Deadline::within("request", ms(100));
    let work = async move {
        let _held = held;
        sleep(ms(101)).await;
    };
    let error = deadline.run("query", work).await.unwrap_err();
    assert_eq!(started.elapsed(), ms(100));
    assert_eq!(Arc::strong_count(&owned), 1, "the work is still there");
    let expected = DeadlineError {
        work: "query",
        limit: "request",
        after: ms(100),
    };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "query was cut off 100ms after the start of its limit \"request\""
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_work_had_done_before_it_was_cut_off_stays_done() {
    let (wire, mut other_end) = mpsc::channel(2);
    let work = async {
        wire.send("head").await.unwrap();
        sleep(ms(101)).await;
        wire.send("body").await.unwrap();
    };
    let deadline = Deadline::within("request", ms(100));
    deadline.run("exchange", work).await.unwrap_err();
    assert_eq!(deadline.run("next", wire.send("head")).await, Ok(Ok(())));
    let seen = (other_end.try_recv(), other_end.try_recv());
    assert_eq!(seen, (Ok("head"), Ok("head")), "a body is missing");
}

#[tokio::test(start_paused = true)]
async fn time_runs_from_the_making_of_the_deadline_not_from_each_run() {
    let started = Instant::now();
    let deadline = Deadline::within("request", ms(100));
    assert_eq!(deadline.run("first", sleep(ms(60))).await, Ok(()));
    assert_eq!(deadline.remaining(), ms(40));
    let error = deadline.run("second", sleep(ms(60))).await.unwrap_err();
    assert_eq!((error.work, error.after), ("second", ms(100)));
    assert_eq!(started.elapsed(), ms(100));

    sleep(ms(100)).await;
    let kept_too_long = deadline.run("third", sleep(ms(1))).await.unwrap_err();
    assert_eq!((kept_too_long.after, started.elapsed()), (ms(200), ms(200)));
}

#[tokio::test(start_paused = true)]
async fn an_inner_limit_that_comes_first_strikes_alone_and_the_rest_of_the_budget_is_left() {
    let started = Instant::now();
    let request = Deadline::within("request", ms(300));
    let work = async {
        sleep(ms(50)).await;
        let query = request.child("query", ms(100));
        assert_eq!(query.remaining(), ms(100));
        let error = query.run("select", pending::<()>()).await.unwrap_err();
        assert_eq!(
            (error.limit, error.after, started.elapsed()),
            ("query", ms(100), ms(150)),
            "after how long, since the inner limit was set"
        );
        request.remaining()
    };
    assert_eq!(request.run("handler", work).await, Ok(ms(150)));
}

#[tokio::test(start_paused = true)]
async fn an_outer_limit_that_comes_first_is_the_one_in_the_error_of_the_inner_run() {
    let started = Instant::now();
    let request = Deadline::within("request", ms(120));
    let work = async {
        sleep(ms(50)).await;
        let query = request.child("query", ms(100));
        assert_eq!(query.remaining(), ms(70), "not longer than the request has");
        let deeper = query.child("read", LIMIT);
        deeper.run("select", pending::<()>()).await
    };
    let expected = DeadlineError {
        work: "select", // on this runtime both timers strike before the task is polled
        limit: "request",
        after: ms(120),
    };
    assert_eq!(request.run("handler", work).await.flatten(), Err(expected));
    assert_eq!(started.elapsed(), ms(120));
}

#[tokio::test(start_paused = true)]
async fn limits_that_come_at_once_have_the_outer_name() {
    let outer = Deadline::within("outer", ms(100));
    let error = outer.child("inner", ms(100)).run("work", pending::<()>());
    assert_eq!(error.await.unwrap_err().limit, "outer");
    let error = outer.child("inner", ms(99)).run("work", pending::<()>());
    assert_eq!(error.await.unwrap_err().limit, "outer", "over by now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_run_strikes_the_limit_is_the_same_on_several_threads() {
    let mut tasks = JoinSet::new();
    for _ in 0..200 {
        tasks.spawn(async {
            let outer = Deadline::within("outer", ms(20));
            let work = async {
                outer
                    .child("inner", LIMIT)
                    .run("inner", pending::<()>())
                    .await
            };
            outer.run("outer", work).await.flatten().unwrap_err()
        });
    }
    for error in tasks.join_all().await {
        assert_eq!(error.limit, "outer");
        assert!(error.after >= ms(20), "early: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn durations_given_to_each_step_add_up_beyond_the_limit_of_the_whole() {
    let started = Instant::now();
    for _ in 0..3 {
        let step = timeout(ms(100), sleep(ms(90)));
        step.await.unwrap();
    }
    assert_eq!(started.elapsed(), ms(270), "each in time, all together not");

    let started = Instant::now();
    let whole = Deadline::within("whole", ms(100));
    let mut done = 0;
    for _ in 0..3 {
        let step = whole.child("step", ms(100)).run("step", sleep(ms(90)));
        done += usize::from(step.await.is_ok());
    }
    assert_eq!((done, started.elapsed()), (1, ms(100)));
}

/// How many of three children are left at the instant of the deadline, when `run` returns, and a
/// turn of the runtime later.
async fn children_left<T>(spawn: impl Fn(Deadline, Arc<()>) -> T) -> (Duration, usize, usize) {
    let started = Instant::now();
    let deadline = Deadline::within("request", ms(100));
    let alive = Arc::new(());
    let work = async {
        let _owned: Vec<T> = (0..3)
            .map(|_| spawn(deadline, Arc::clone(&alive)))
            .collect();
        pending::<()>().await;
    };
    deadline.run("parent", work).await.unwrap_err();
    let at_return = Arc::strong_count(&alive) - 1;
    let elapsed = started.elapsed();
    yield_now().await;
    (elapsed, at_return, Arc::strong_count(&alive) - 1)
}

async fn child(alive: Arc<()>) {
    pending::<()>().await;
    drop(alive);
}

#[tokio::test(start_paused = true)]
async fn children_that_the_work_owns_are_stopped_with_it_and_gone_a_moment_later() {
    let in_a_set = children_left(|_, alive| {
        let mut set = JoinSet::new();
        set.spawn(child(alive));
        set
    });
    assert_eq!(in_a_set.await, (ms(100), 3, 0));
    let by_handle = children_left(|_, alive| AbortOnDropHandle::new(tokio::spawn(child(alive))));
    assert_eq!(by_handle.await, (ms(100), 3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_spawned_run_ends_by_itself_though_nobody_owns_it() {
    let detached = children_left(|deadline, alive| {
        drop(tokio::spawn(deadline.run("child", child(alive))));
    });
    let (elapsed, _, left) = detached.await;
    assert_eq!((elapsed, left), (ms(100), 0));
}

#[tokio::test(start_paused = true)]
async fn a_plainly_spawned_task_works_on_after_the_deadline_of_its_parent() {
    let steps = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&steps);
    let work = async move {
        let _dropped_and_not_aborted = tokio::spawn(async move {
            for _ in 0..50 {
                sleep(ms(10)).await;
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        pending::<()>().await;
    };
    let deadline = Deadline::within("request", ms(105));
    deadline.run("parent", work).await.unwrap_err();
    assert_eq!(steps.load(Ordering::Relaxed), 10);
    sleep(LIMIT).await;
    assert_eq!(
        steps.load(Ordering::Relaxed),
        50,
        "forty of them for nobody"
    );
}

#[tokio::test(start_paused = true)]
async fn code_that_never_yields_is_not_interrupted_and_its_late_result_is_ok() {
    let started = Instant::now();
    let steps = Cell::new(0);
    let work = async {
        for _ in 0..1_000 {
            compute(ms(1)).await;
            ready(()).await; // an await that is ready does not yield
            steps.set(steps.get() + 1);
        }
    };
    let late = Deadline::within("request", ms(100)).run("loop", work).await;
    assert_eq!((late, steps.get()), (Ok(()), 1_000));
    assert_eq!(started.elapsed(), ms(1_000), "ten times the limit");
}

#[tokio::test(start_paused = true)]
async fn code_that_blocks_before_it_waits_is_cut_off_late_and_the_error_says_how_late() {
    let work = async {
        compute(ms(350)).await;
        pending::<()>().await;
    };
    let error = Deadline::within("request", ms(100)).run("report", work);
    assert_eq!(error.await.unwrap_err().after, ms(350));
}

/// After how many steps of a millisecond a loop is cut off that comes to `pause` after each.
async fn steps_until_cut_off(limit: Duration, pause: impl AsyncFn()) -> (u64, Duration) {
    let started = Instant::now();
    let steps = Cell::new(0);
    let work = async {
        loop {
            compute(ms(1)).await;
            steps.set(steps.get() + 1);
            pause().await;
        }
    };
    let deadline = Deadline::within("request", limit);
    deadline.run("loop", work).await.unwrap_err();
    (steps.get(), started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_shares_the_thread_is_cut_off() {
    // The work is asked before the clock, so it takes one more step in the turn that ends it.
    assert_eq!(
        steps_until_cut_off(ms(100), yield_now).await,
        (101, ms(101))
    );
    // A channel that always has something never makes the task wait, but takes part in the budget.
    let (sender, receiver) = mpsc::channel(1);
    let receiver = tokio::sync::Mutex::new(receiver);
    let always_ready = async || {
        sender.try_send(()).ok(); // full, if the loop before was cut off in between
        receiver.lock().await.recv().await.unwrap();
    };
    for limit in [1, 100, 300] {
        // The rest of the turn in which the deadline comes, and the whole of the next.
        let soon = limit..limit + 2 * 128;
        let (steps, _) = steps_until_cut_off(ms(limit), consume_budget).await;
        assert!(soon.contains(&steps), "{limit} ms: {steps} steps");
        let (steps, _) = steps_until_cut_off(ms(limit), always_ready).await;
        assert!(soon.contains(&steps), "{limit} ms: {steps} steps");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_over_polls_the_work_once() {
    let over = Deadline::within("request", Duration::ZERO);
    assert_eq!(over.remaining(), Duration::ZERO);
    assert_eq!(over.run("ready", ready(7)).await, Ok(7));

    let past = Deadline::at("request", Instant::now() - ms(10));
    assert_eq!(past.remaining(), Duration::ZERO);
    let begun = Cell::new(0);
    let work = async {
        begun.set(begun.get() + 1);
        yield_now().await;
        begun.set(begun.get() + 1);
    };
    let started = Instant::now();
    past.run("work", work).await.unwrap_err();
    assert_eq!((begun.get(), started.elapsed()), (1, Duration::ZERO));
    let child = past.child("inner", LIMIT).run("work", pending::<()>());
    assert_eq!(child.await.unwrap_err().limit, "request");
}

#[tokio::test(start_paused = true)]
async fn the_timer_strikes_at_the_next_whole_millisecond_and_never_early() {
    let started = Instant::now();
    let deadline = Deadline::within("request", Duration::from_micros(1_001));
    let error = deadline.run("work", pending::<()>()).await.unwrap_err();
    assert_eq!((error.after, started.elapsed()), (ms(2), ms(2)));
}

#[tokio::test(start_paused = true)]
async fn an_instant_given_from_outside_is_the_deadline() {
    let started = Instant::now();
    let deadline = Deadline::at("batch", started + ms(250));
    sleep(ms(50)).await;
    let error = deadline.run("work", pending::<()>()).await.unwrap_err();
    assert_eq!((error.after, started.elapsed()), (ms(250), ms(250)));
}

/// The last instant that the clock can count.
fn last_instant() -> Instant {
    let mut last = Instant::now();
    for power in (0..=93).rev() {
        let step = Duration::from_nanos_u128(1 << power);
        while let Some(later) = last.checked_add(step) {
            last = later;
        }
    }
    last
}

#[tokio::test(start_paused = true)]
async fn enormous_durations_and_instants_are_no_panic_and_never_strike() {
    let last = last_instant();
    let to_the_last = last.duration_since(Instant::now());
    for deadline in [
        Deadline::never(),
        Deadline::within("request", Duration::MAX),
        Deadline::within("request", to_the_last),
        Deadline::at("request", last),
        Deadline::within("request", Duration::MAX).child("inner", Duration::MAX),
        Deadline::never().child("inner", Duration::MAX),
    ] {
        assert_eq!(deadline.remaining(), Duration::MAX);
        let started = Instant::now();
        assert_eq!(deadline.run("work", sleep(LIMIT)).await, Ok(()));
        assert_eq!(started.elapsed(), LIMIT);
        let child = deadline.child("child", ms(5)).run("work", sleep(LIMIT));
        assert_eq!(child.await.unwrap_err().limit, "child");
    }
    let centuries = Duration::from_secs(300 * 365 * 86_400);
    let far = Deadline::within("request", centuries);
    assert_eq!(far.remaining(), centuries);
    assert_eq!(far.run("work", sleep(LIMIT)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_bare_timeout_panics_in_the_last_millisecond_of_the_clock() {
    let bare = AssertUnwindSafe(timeout_at(last_instant(), pending::<()>())).catch_unwind();
    bare.await.expect_err("it rounds up, and overflows");
}

#[tokio::test(start_paused = true)]
async fn the_error_crosses_a_spawn_and_becomes_a_boxed_one() {
    async fn step(deadline: Deadline) -> Result<u32, Box<dyn Error + Send + Sync>> {
        Ok(deadline.run("step", pending()).await?)
    }
    let deadline = Deadline::within("request", ms(10));
    let bare = tokio::spawn(deadline.run("bare", pending::<u32>()));
    assert_eq!(bare.await.unwrap().unwrap_err().work, "bare");
    let boxed = tokio::spawn(step(deadline)).await.unwrap().unwrap_err();
    let found = boxed.downcast_ref::<DeadlineError>().unwrap();
    assert_eq!((found.work, found.limit), ("step", "request"));
}

#[test]
fn without_a_limit_no_runtime_is_needed_to_wait() {
    let deadline = Deadline::never();
    let result = deadline.run("work", ready(7)).now_or_never();
    assert_eq!(result, Some(Ok(7)));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_run_drops_the_work_where_it_waits() {
    let points = every_await_point(
        LIMIT,
        async || (Arc::new(()), Cell::new(0)),
        async |(owned, done)| {
            let held = Arc::clone(owned);
            let work = async {
                let _held = held;
                for _ in 0..3 {
                    sleep(ms(10)).await;
                    done.set(done.get() + 1);
                }
            };
            Deadline::within("request", LIMIT).run("work", work).await
        },
        async |(owned, done), outcome| {
            assert_eq!(Arc::strong_count(&owned), 1, "the work is still there");
            let before = done.get();
            sleep(LIMIT).await;
            assert_eq!(done.get(), before, "it works on");
            assert_eq!(matches!(outcome, Outcome::Completed(_)), before == 3);
        },
    )
    .await;
    assert!(points.unwrap() >= 3);
}
