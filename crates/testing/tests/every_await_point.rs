//! What the harness finds, and that it tells the truth about it.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use testing::every_await_point::{AwaitPointError, Cut, Outcome, every_await_point};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);

/// Two accounts behind locks; money must not vanish between them.
struct Bank {
    from: Mutex<u32>,
    to: Mutex<u32>,
}

async fn bank() -> Bank {
    Bank {
        from: Mutex::new(100),
        to: Mutex::new(0),
    }
}

async fn nothing_vanished(bank: Bank, _: Outcome<()>) {
    assert_eq!(
        bank.from.into_inner() + bank.to.into_inner(),
        100,
        "money vanished"
    );
}

#[tokio::test(start_paused = true)]
async fn a_loss_between_two_awaits_is_found_and_the_await_point_named() {
    let careless = async |bank: &mut Bank| {
        *bank.from.lock().await -= 10;
        *bank.to.lock().await += 10;
    };
    let found = every_await_point(LIMIT, bank, careless, nothing_vanished).await;
    let Err(AwaitPointError::Broken { cut, message }) = found else {
        panic!("the loss was not found: {found:?}");
    };
    assert_eq!(cut, Some(Cut::Suspended(2)));
    assert!(message.contains("money vanished"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_the_operation_noted_names_the_await() {
    let setup = async || (bank().await, "nothing");
    let careless = async |(bank, step): &mut (Bank, &'static str)| {
        *bank.from.lock().await -= 10;
        *step = "taken";
        *bank.to.lock().await += 10;
        *step = "given";
    };
    let check = async |(bank, step): (Bank, _), _| {
        let sum = bank.from.into_inner() + bank.to.into_inner();
        assert!(sum == 100, "{sum} left once it was {step}");
    };
    let found = every_await_point(LIMIT, setup, careless, check).await;
    assert_eq!(
        found.unwrap_err().to_string(),
        "dropped at await point 2, as it suspended: 90 left once it was taken"
    );
}

#[tokio::test(start_paused = true)]
async fn a_loss_at_the_first_await_is_found_although_it_is_ready_at_once() {
    let lossy = async |bank: &mut Bank| {
        *bank.from.get_mut() -= 10;
        *bank.to.lock().await += 10;
    };
    let found = every_await_point(LIMIT, bank, lossy, nothing_vanished).await;
    let Err(AwaitPointError::Broken { cut, .. }) = found else {
        panic!("the loss was not found: {found:?}");
    };
    assert_eq!(cut, Some(Cut::Suspended(1)));
}

#[tokio::test(start_paused = true)]
async fn a_setup_or_a_check_that_waits_for_ever_is_stuck_with_its_round() {
    let setup = async || pending::<()>().await;
    let found = every_await_point(LIMIT, setup, async |()| (), async |(), _| ()).await;
    assert_eq!(
        found.unwrap_err().to_string(),
        "setup still running after 0 suspensions and 60s"
    );
    let check = async |(), outcome| {
        if outcome == Outcome::Dropped(Cut::Suspended(2)) {
            pending::<()>().await;
        }
    };
    let twice = async |(): &mut ()| {
        sleep(Duration::ZERO).await;
        sleep(Duration::ZERO).await;
    };
    let found = every_await_point(LIMIT, async || (), twice, check).await;
    assert_eq!(
        found.unwrap_err().to_string(),
        "check still running after 2 suspensions and 60s, in the round dropped at await point 2, as it suspended"
    );
}

#[tokio::test(start_paused = true)]
async fn an_await_point_that_later_rounds_do_not_reach_is_not_counted() {
    let rounds = Cell::new(0);
    let long_once = async |(): &mut ()| {
        rounds.set(rounds.get() + 1);
        for _ in 0..if rounds.get() == 1 { 5 } else { 2 } {
            sleep(Duration::ZERO).await;
        }
    };
    let points = every_await_point(LIMIT, async || (), long_once, async |(), _| ()).await;
    assert_eq!(points.unwrap(), 2);
    assert_eq!(rounds.get(), 1 + 2 * 5, "and it was looked for");
}

#[tokio::test(start_paused = true)]
async fn an_await_point_that_was_tried_in_one_way_only_is_not_counted() {
    let rounds = Cell::new(0);
    let but_the_last_time = async |(): &mut ()| {
        rounds.set(rounds.get() + 1);
        if rounds.get() < 3 {
            sleep(Duration::ZERO).await;
        }
    };
    let points = every_await_point(LIMIT, async || (), but_the_last_time, async |(), _| ()).await;
    assert_eq!(points.unwrap(), 0);
    assert_eq!(rounds.get(), 3, "whole, suspended and woken");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_only_looks_finds_what_is_there() {
    let look = async |mut receiver: mpsc::Receiver<u8>, _| {
        let mut received = pin!(receiver.recv());
        let seen = poll_fn(|cx| Poll::Ready(received.as_mut().poll(cx))).await;
        assert_eq!(
            seen,
            Poll::Ready(Some(1)),
            "the budget was spent by the harness"
        );
    };
    let setup = async || {
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(1).unwrap();
        receiver
    };
    let two_locks = async |_: &mut mpsc::Receiver<u8>| {
        let lock = Mutex::new(());
        drop(lock.lock().await);
        drop(lock.lock().await);
    };
    let points = every_await_point(LIMIT, setup, two_locks, look).await;
    assert_eq!(points.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_keeps_the_invariant_passes_with_its_await_points_counted() {
    let careful = async |bank: &mut Bank| {
        let mut from = bank.from.lock().await;
        let mut to = bank.to.lock().await;
        *from -= 10;
        *to += 10;
    };
    let points = every_await_point(LIMIT, bank, careful, nothing_vanished)
        .await
        .unwrap();
    assert_eq!(points, 2, "one for each lock, although both are free");
}

#[tokio::test(start_paused = true)]
async fn awaits_that_are_ready_at_once_are_await_points_too() {
    let send_three = async |(queue, _): &mut (mpsc::Sender<u8>, mpsc::Receiver<u8>)| {
        for item in 0..3 {
            queue.send(item).await.unwrap();
        }
    };
    let sent = RefCell::new(Vec::new());
    let check = async |(_, received): (_, mpsc::Receiver<u8>), _| {
        sent.borrow_mut().push(received.len());
    };
    let points = every_await_point(LIMIT, async || mpsc::channel(3), send_three, check).await;
    assert_eq!(points.unwrap(), 3);
    assert_eq!(
        sent.into_inner(),
        [3, 0, 0, 1, 1, 2, 2],
        "the whole, then twice at each point"
    );
}

/// A reply that is lost if it arrives and its receiver is dropped unread.
#[tokio::test(start_paused = true)]
async fn a_future_is_also_dropped_after_its_wake_up_and_before_its_next_poll() {
    struct Call {
        answer: Option<oneshot::Receiver<u8>>,
        answered: JoinHandle<Result<(), u8>>,
    }
    let found = every_await_point(
        LIMIT,
        async || {
            let (reply, answer) = oneshot::channel();
            let answered = tokio::spawn(async move {
                sleep(Duration::from_secs(1)).await;
                reply.send(7)
            });
            Call {
                answer: Some(answer),
                answered,
            }
        },
        async |call: &mut Call| call.answer.take().unwrap().await.unwrap(),
        async |call, outcome| {
            let taken = call.answered.await.unwrap().is_ok();
            assert_eq!(
                taken,
                outcome == Outcome::Completed(7),
                "delivered to nobody"
            );
        },
    )
    .await;
    let Err(AwaitPointError::Broken { cut, .. }) = &found else {
        panic!("not found: {found:?}")
    };
    assert_eq!(*cut, Some(Cut::Woken(2)));
    assert_eq!(
        found.unwrap_err().to_string().lines().next().unwrap(),
        "dropped at await point 2, once it was woken: assertion `left == right` failed: delivered to nobody"
    );
}

#[tokio::test(start_paused = true)]
async fn each_round_is_dropped_at_its_own_instant_on_the_virtual_clock() {
    let rounds = RefCell::new(Vec::new());
    let points = every_await_point(
        LIMIT,
        async || Instant::now(),
        async |_| {
            sleep(Duration::from_millis(100)).await;
            sleep(Duration::from_millis(50)).await;
        },
        async |started, outcome| {
            rounds
                .borrow_mut()
                .push((outcome, started.elapsed().as_millis()));
        },
    )
    .await;
    assert_eq!(points.unwrap(), 4);
    let expected = [
        (Outcome::Completed(()), 150),
        (Outcome::Dropped(Cut::Suspended(1)), 0),
        (Outcome::Dropped(Cut::Woken(1)), 0), // woken for a new budget, not by the timer
        (Outcome::Dropped(Cut::Suspended(2)), 0),
        (Outcome::Dropped(Cut::Woken(2)), 100),
        (Outcome::Dropped(Cut::Suspended(3)), 100),
        (Outcome::Dropped(Cut::Woken(3)), 100), // the same before the second sleep
        (Outcome::Dropped(Cut::Suspended(4)), 100),
        (Outcome::Dropped(Cut::Woken(4)), 150),
    ];
    assert_eq!(rounds.into_inner(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_broken_end_is_reported_without_an_await_point() {
    let check = async |(), outcome| assert!(matches!(outcome, Outcome::Dropped(_)), "wrong end");
    let found = every_await_point(LIMIT, async || (), async |()| (), check)
        .await
        .unwrap_err();
    assert_eq!(found.to_string(), "ran to its end: wrong end");
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_waits_for_ever_is_stuck_at_the_limit() {
    let started = Instant::now();
    let found = every_await_point(
        LIMIT,
        async || (),
        async |()| {
            sleep(Duration::from_secs(1)).await;
            pending::<()>().await;
        },
        async |(), _| (),
    )
    .await
    .unwrap_err();
    assert!(
        matches!(
            found,
            AwaitPointError::Stuck {
                phase: "operation",
                cut: None,
                suspensions: 3,
                limit: LIMIT
            }
        ),
        "{found:?}"
    );
    assert_eq!(started.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_only_yields_is_stuck_although_the_clock_stands_still() {
    let spin = async |(): &mut ()| loop {
        tokio::task::yield_now().await;
    };
    let started = Instant::now();
    let found = every_await_point(LIMIT, async || (), spin, async |(), _: Outcome<()>| ()).await;
    assert!(
        matches!(
            found,
            Err(AwaitPointError::Stuck {
                suspensions: 10_000,
                ..
            })
        ),
        "{found:?}"
    );
    assert_eq!(
        started.elapsed(),
        Duration::ZERO,
        "a ready task never lets a paused clock advance"
    );
}

#[tokio::test(start_paused = true)]
async fn a_harness_outside_of_any_budget_says_so_instead_of_finding_nothing() {
    let harness = every_await_point(LIMIT, bank, async |_| (), nothing_vanished);
    let found = tokio::task::coop::unconstrained(harness).await;
    assert!(matches!(found, Err(AwaitPointError::NoBudget)), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_harness_drops_the_round_under_way() {
    let (alive, mut dropped) = mpsc::channel::<()>(1);
    let harness = every_await_point(
        LIMIT,
        async || alive.clone(),
        async |_| sleep(Duration::from_secs(10)).await,
        async |_, _| (),
    );
    timeout(Duration::from_secs(5), harness).await.unwrap_err();
    drop(alive);
    assert_eq!(dropped.recv().await, None, "a state lives on");
}

/// The await points in two operations that are ready at once, the first of which uses the unit up.
async fn points_in_two<F: Future>(operation: impl AsyncFn() -> F) -> usize {
    let twice = async |(): &mut ()| {
        operation().await.await;
        operation().await.await;
    };
    every_await_point(LIMIT, async || (), twice, async |(), _| ())
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn channels_locks_timers_and_join_handles_suspend_on_demand_and_others_do_not() {
    use tokio::sync::{Notify, RwLock, Semaphore, broadcast, watch};
    let (mutex, rwlock, semaphore) = (Mutex::new(()), RwLock::new(()), Semaphore::new(1));
    let points = [
        points_in_two(async || async { drop(mutex.lock().await) }).await,
        points_in_two(async || async { drop(rwlock.read().await) }).await,
        points_in_two(async || async { drop(semaphore.acquire().await) }).await,
        points_in_two(async || async { mpsc::channel(1).0.send(()).await }).await,
        points_in_two(async || async {
            let (sender, mut receiver) = mpsc::channel(1);
            sender.try_send(()).unwrap();
            receiver.recv().await
        })
        .await,
        points_in_two(async || async {
            let (sender, receiver) = oneshot::channel();
            sender.send(()).unwrap();
            receiver.await
        })
        .await,
        points_in_two(async || async {
            let (sender, mut receiver) = broadcast::channel(1);
            sender.send(()).unwrap();
            receiver.recv().await
        })
        .await,
        points_in_two(async || async {
            let (sender, mut receiver) = watch::channel(0);
            sender.send(1).unwrap();
            receiver.changed().await
        })
        .await,
        points_in_two(async || sleep(Duration::ZERO)).await,
    ];
    assert_eq!(points, [2; 9]);

    let two_ended_tasks = async || {
        let tasks = (tokio::spawn(async {}), tokio::spawn(async {}));
        tokio::task::yield_now().await;
        tasks
    };
    let join = async |(one, two): &mut (JoinHandle<()>, JoinHandle<()>)| {
        one.await.unwrap();
        two.await.unwrap();
    };
    assert_eq!(
        every_await_point(LIMIT, two_ended_tasks, join, async |_, _| ())
            .await
            .unwrap(),
        2
    );

    let notify = Notify::new();
    let stored = async || async {
        notify.notify_one();
        notify.notified().await;
    };
    assert_eq!(points_in_two(stored).await, 0);
    assert_eq!(points_in_two(async || std::future::ready(())).await, 0);
}
