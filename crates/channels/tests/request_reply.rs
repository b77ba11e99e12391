//! What an actor and its handle promise.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::pending;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use channels::request_reply::{CallError, Handle, Inbox, actor};
use testing::capture_events::Capture;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);
const ONE: NonZeroUsize = NonZeroUsize::MIN;
const MANY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1_000);

/// Adds up what it is sent, 100 ms for each request, and answers with the sum so far.
fn adder(capacity: NonZeroUsize) -> (Handle<u32, u32>, JoinHandle<()>) {
    let (handle, inbox) = actor(capacity);
    let mut sum = 0;
    let task = tokio::spawn(inbox.serve(async move |number: u32| {
        sleep(TAKES).await;
        sum += number;
        sum
    }));
    (handle, task)
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_in_turn_each_with_its_own_answer() {
    let (adder, _task) = adder(ONE);
    let started = Instant::now();
    let (a, b, c) = tokio::join!(
        adder.call(1, LIMIT),
        adder.call(10, LIMIT),
        adder.call(100, LIMIT)
    );
    assert_eq!((a, b, c), (Ok(1), Ok(11), Ok(111)));
    assert_eq!(started.elapsed(), 3 * TAKES);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_does_not_stop_the_actor() {
    let (adder, _task) = adder(ONE);
    timeout(TAKES / 2, adder.call(1, LIMIT))
        .await
        .expect_err("dropped while it is carried out");
    assert_eq!(
        adder.call(10, LIMIT).await,
        Ok(11),
        "the first was carried out in full"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_caller_left_before_its_turn_is_skipped() {
    let (adder, _task) = adder(ONE);
    let first = adder.call(1, LIMIT);
    let impatient = timeout(TAKES / 2, adder.call(10, LIMIT));
    let (first, impatient) = tokio::join!(first, impatient);
    assert!(first.is_ok() && impatient.is_err());
    assert_eq!(adder.call(100, LIMIT).await, Ok(101));
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_is_gone_gives_the_request_back() {
    let (adder, task) = adder(ONE);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(adder.call(7, LIMIT).await, Err(CallError::Ended(7)));
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_ends_or_panics_with_an_accepted_request_is_an_error_for_its_caller() {
    let (adder, task) = adder(ONE);
    let stop = async {
        sleep(TAKES / 2).await;
        task.abort();
    };
    let (running, waiting, ()) = tokio::join!(adder.call(1, LIMIT), adder.call(2, LIMIT), stop);
    assert_eq!(
        (running, waiting),
        (Err(CallError::Dropped), Err(CallError::Dropped))
    );

    let (handle, inbox) = actor::<u32, u32>(ONE);
    let task = tokio::spawn(inbox.serve(async |_| panic!("broken")));
    assert_eq!(handle.call(1, LIMIT).await, Err(CallError::Dropped));
    assert!(
        task.await.unwrap_err().is_panic(),
        "the owner of the task sees the panic"
    );
}

#[tokio::test(start_paused = true)]
async fn the_deadline_covers_the_wait_for_room_and_for_the_answer() {
    let (handle, _inbox) = actor::<u32, u32>(ONE); // nobody serves
    let started = Instant::now();
    assert_eq!(handle.call(1, TAKES).await, Err(CallError::Unanswered));
    assert_eq!(started.elapsed(), TAKES);
    assert_eq!(
        handle.call(2, TAKES).await,
        Err(CallError::Full(2)),
        "the first still lies there"
    );
    assert_eq!(started.elapsed(), 2 * TAKES);

    let (adder, _task) = adder(ONE);
    let started = Instant::now();
    let calls = async |number| (adder.call(number, TAKES * 3 / 2).await, started.elapsed());
    // The third waits 100 ms for room and 50 ms for its answer, not 150 ms for each.
    let (_, _, (third, elapsed)) = tokio::join!(calls(1), calls(2), calls(3));
    assert_eq!(
        (third, elapsed),
        (Err(CallError::Unanswered), TAKES * 3 / 2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_limit_without_an_end_is_thirty_years() {
    let (silent, inbox) = actor(ONE);
    let _task = tokio::spawn(inbox.serve(async |()| pending().await));
    let started = Instant::now();
    let answer: Result<(), _> = silent.call((), Duration::MAX).await;
    assert_eq!(answer, Err(CallError::Unanswered));
    assert_eq!(started.elapsed().as_secs() / (365 * 86_400), 30);
}

#[tokio::test(start_paused = true)]
async fn enormous_limits_are_no_panic() {
    let (adder, _task) = adder(NonZeroUsize::MAX);
    assert_eq!(adder.call(1, Duration::MAX).await, Ok(1));
    assert_eq!(
        adder.call(1, Duration::ZERO).await,
        Err(CallError::Unanswered)
    );
}

#[tokio::test(start_paused = true)]
async fn the_actor_ends_with_its_last_handle_and_answers_what_it_accepted() {
    let (handle, inbox) = actor::<u32, u32>(ONE);
    let task = tokio::spawn(inbox.serve_overlapping(MANY, |number| async move {
        sleep(TAKES).await;
        number
    }));
    let (sender, receiver) = oneshot::channel();
    let caller = tokio::spawn(async move {
        let answer = handle.call(7, LIMIT).await;
        sender.send(answer).unwrap();
    });
    assert_eq!(receiver.await.unwrap(), Ok(7));
    caller.await.unwrap();
    timeout(LIMIT, task).await.expect("it lives on").unwrap();
}

#[tokio::test(start_paused = true)]
async fn answers_under_way_are_limited_and_stop_when_their_callers_give_up() {
    let alive = Arc::new(());
    let (handle, inbox) = actor::<(), ()>(ONE);
    let held = Arc::clone(&alive);
    let three = ONE.saturating_add(2);
    let task = tokio::spawn(inbox.serve_overlapping(three, move |()| {
        let held = Arc::clone(&held);
        async move {
            let _held = held;
            pending::<()>().await;
        }
    }));
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.call((), TAKES).await })
        })
        .collect();
    sleep(TAKES / 2).await;
    assert_eq!(
        Arc::strong_count(&alive),
        2 + 3,
        "besides the test's and the handler's own"
    );
    let mut full = 0;
    for caller in callers {
        full += usize::from(caller.await.unwrap() == Err(CallError::Full(())));
    }
    assert_eq!(full, 10 - 3 - 1, "three under way, one in the inbox");
    sleep(TAKES).await;
    assert_eq!(
        Arc::strong_count(&alive),
        2,
        "work for callers that have left"
    );
    drop(handle);
    timeout(LIMIT, task)
        .await
        .expect("it waits for answers that nobody wants")
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_overlapping_request_whose_caller_or_actor_leaves_is_carried_out_to_its_next_await() {
    for how in ["dropped", "deadline", "actor aborted"] {
        let steps = Arc::new(AtomicU32::new(0));
        let done = Arc::clone(&steps);
        let (handle, inbox) = actor::<(), ()>(ONE);
        let task = tokio::spawn(inbox.serve_overlapping(MANY, move |()| {
            let done = Arc::clone(&done);
            async move {
                done.fetch_add(1, Ordering::Relaxed);
                sleep(TAKES).await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }));
        if how == "dropped" {
            timeout(TAKES / 2, handle.call((), LIMIT))
                .await
                .expect_err("between the two steps");
        } else if how == "deadline" {
            let answer = handle.call((), TAKES / 2).await;
            assert_eq!(answer, Err(CallError::Unanswered));
        } else {
            let abort = async {
                sleep(TAKES / 2).await;
                task.abort();
            };
            let (answer, ()) = tokio::join!(handle.call((), LIMIT), abort);
            assert_eq!(answer, Err(CallError::Dropped));
        }
        drop(handle);
        timeout(LIMIT, task).await.unwrap().ok(); // it ends, or was aborted
        sleep(LIMIT).await;
        assert_eq!(steps.load(Ordering::Relaxed), 1, "of 2 steps: {how}");
    }
}

#[tokio::test(start_paused = true)]
async fn overlapping_requests_whose_callers_left_before_their_turn_are_skipped() {
    let handled = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&handled);
    let (handle, inbox) = actor::<(), ()>(ONE);
    let task = tokio::spawn(inbox.serve_overlapping(ONE, move |()| {
        count.fetch_add(1, Ordering::Relaxed);
        sleep(TAKES)
    }));
    let first = handle.call((), LIMIT);
    let impatient = handle.call((), TAKES / 2);
    let (first, impatient) = tokio::join!(first, impatient);
    assert_eq!((first, impatient), (Ok(()), Err(CallError::Unanswered)));
    drop(handle);
    task.await.unwrap();
    assert_eq!(handled.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_races_with_the_end_of_its_actor_does_not_wait_for_its_deadline() {
    for _ in 0..2_000 {
        let (handle, inbox) = actor::<(), ()>(ONE);
        let end = tokio::spawn(async move { drop(inbox) });
        let call = tokio::spawn(async move { handle.call((), LIMIT).await });
        end.await.unwrap();
        let answer = timeout(LIMIT / 2, call)
            .await
            .expect("it waits on")
            .unwrap();
        assert!(
            matches!(answer, Err(CallError::Ended(()) | CallError::Dropped)),
            "{answer:?}"
        );
    }
}

/// Two actors of capacity 1. The first asks the second, which asks the first again.
fn circle(serve: impl Fn(Inbox<u32, u32>, Handle<u32, u32>) -> JoinHandle<()>) -> Handle<u32, u32> {
    let (first, first_inbox) = actor(ONE);
    let (second, second_inbox) = actor(ONE);
    serve(first_inbox, second);
    serve(second_inbox, first.clone());
    first
}

/// Counts down by asking the other actor for the rest of the way.
async fn count_down(other: Handle<u32, u32>, number: u32) -> u32 {
    if number == 0 {
        0
    } else {
        other
            .call(number - 1, LIMIT)
            .await
            .map_or(u32::MAX, |n| n + 1)
    }
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_two_overlapping_actors_at_capacity_one_does_not_deadlock() {
    let first = circle(|inbox, other| {
        tokio::spawn(inbox.serve_overlapping(MANY, move |number| count_down(other.clone(), number)))
    });
    let started = Instant::now();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let first = first.clone();
            tokio::spawn(async move { first.call(20, LIMIT).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), Ok(20));
    }
    assert_eq!(
        started.elapsed(),
        Duration::ZERO,
        "somebody waited for a deadline"
    );
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_actors_that_serve_one_at_a_time_stands_still_until_the_deadline() {
    let first = circle(|inbox, other| {
        tokio::spawn(inbox.serve(async move |number| count_down(other.clone(), number).await))
    });
    let started = Instant::now();
    assert_eq!(
        first.call(1, LIMIT).await,
        Ok(1),
        "there and not back: no circle yet"
    );
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(
        first.call(2, 2 * LIMIT).await,
        Ok(u32::MAX),
        "an error deep down"
    );
    assert_eq!(started.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_overlapping_answer_is_logged_and_is_its_callers_error_and_nobody_elses() {
    let log = Capture::of("channels::request_reply");
    let _guard = log.start();
    let (handle, inbox) = actor(ONE);
    let _task = tokio::spawn(inbox.serve_overlapping(MANY, |number: u32| async move {
        assert_ne!(number, 0, "no zero");
        number
    }));
    let (bad, good) = tokio::join!(handle.call(0, LIMIT), handle.call(5, LIMIT));
    assert_eq!((bad, good), (Err(CallError::Dropped), Ok(5)));
    let logged = log.lines();
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert!(logged[0].starts_with("ERROR an actor's answer was lost error="));
    assert!(logged[0].contains("no zero"), "{logged:?}");
}

#[tokio::test(start_paused = true)]
async fn an_actor_with_a_handle_to_itself_never_ends_on_its_own() {
    let (handle, inbox) = actor::<u32, u32>(ONE);
    let itself = handle.clone();
    let task = tokio::spawn(inbox.serve(async move |_| {
        let _itself = &itself;
        pending().await
    }));
    drop(handle);
    timeout(LIMIT, task)
        .await
        .expect_err("its own handle keeps it alive");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_carried_out_in_full_or_not_at_all() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (adder, task) = adder(ONE);
            let ahead = tokio::spawn({
                let adder = adder.clone();
                async move { tokio::join!(adder.call(1, LIMIT), adder.call(1, LIMIT)) }
            });
            sleep(TAKES / 2).await; // one is carried out, one waits: the inbox is full
            (adder, task, ahead)
        },
        async |(adder, ..)| adder.call(10, LIMIT).await,
        async |(adder, _task, ahead), outcome| {
            ahead.await.unwrap().1.unwrap();
            let sum = adder.call(100, LIMIT).await.unwrap();
            assert!(
                sum == 102 || sum == 112,
                "{sum}: something else was lost or done twice"
            );
            if let Outcome::Completed(answer) = outcome {
                assert_eq!((answer, sum), (Ok(12), 112));
            }
        },
    )
    .await;
    assert!(
        points.unwrap() >= 2,
        "the wait for room and the wait for the answer"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_actor_drops_what_it_accepted_and_its_callers_hear_of_it() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (handle, inbox) = actor::<u32, u32>(ONE);
            let call = tokio::spawn(async move { handle.call(1, LIMIT).await });
            sleep(TAKES).await;
            (Some(inbox), call)
        },
        async |(inbox, _)| {
            let double = |number| async move {
                sleep(TAKES).await;
                number * 2
            };
            inbox.take().unwrap().serve_overlapping(MANY, double).await;
        },
        async |(_, call), outcome| {
            let answer = timeout(TAKES, call)
                .await
                .expect("the caller waits on")
                .unwrap();
            match outcome {
                Outcome::Completed(()) => assert_eq!(answer, Ok(2)),
                Outcome::Dropped(_) => assert!(matches!(answer, Ok(2) | Err(CallError::Dropped))),
            }
        },
    )
    .await;
    assert!(points.unwrap() >= 2);
}
