//! What the limiter promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::pending;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sync::limit_concurrency::{Limiter, Limits, Permit, Refused};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);

fn limiter(running: usize, waiting: usize) -> Limiter {
    Limiter::new(Limits {
        running: NonZeroUsize::MIN.saturating_add(running - 1),
        waiting,
    })
}

/// Counts what runs at once.
#[derive(Debug, Default)]
struct Gauge {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Gauge {
    async fn work(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        sleep(TAKES).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }
}

/// Takes all that there is now: how many may run, and how many more may wait.
async fn capacity(limiter: &Limiter) -> (usize, usize) {
    let mut callers = JoinSet::new();
    let refused = Arc::new(AtomicUsize::new(0));
    let running = Arc::new(AtomicUsize::new(0));
    let all = 20;
    for _ in 0..all {
        let (limiter, running, refused) = (limiter.clone(), running.clone(), refused.clone());
        callers.spawn(async move {
            let run = limiter.run(async {
                running.fetch_add(1, Ordering::SeqCst);
                pending::<()>().await;
            });
            run.await.unwrap_err();
            refused.fetch_add(1, Ordering::SeqCst);
        });
    }
    sleep(Duration::from_millis(1)).await;
    callers.shutdown().await;
    let running = running.load(Ordering::SeqCst);
    (running, all - refused.load(Ordering::SeqCst) - running)
}

#[tokio::test(start_paused = true)]
async fn as_many_run_as_may_and_each_that_ends_lets_one_in() {
    let (limiter, gauge) = (limiter(3, 5), Gauge::default());
    let started = Instant::now();
    let call = async || {
        let begun = limiter.run(async {
            let begun = started.elapsed().as_millis();
            gauge.work().await;
            begun
        });
        begun.await.unwrap()
    };
    let (a, b, c, d, e, f, g, h) = tokio::join!(
        call(),
        call(),
        call(),
        call(),
        call(),
        call(),
        call(),
        call()
    );
    assert_eq!([a, b, c, d, e, f, g, h], [0, 0, 0, 100, 100, 100, 200, 200]);
    assert_eq!(gauge.peak(), 3);
    assert_eq!(started.elapsed(), 3 * TAKES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_too_no_more_run_or_wait_than_may() {
    let (limiter, gauge) = (limiter(3, 4), Arc::new(Gauge::default()));
    let inside = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let (limiter, gauge, inside) = (limiter.clone(), gauge.clone(), inside.clone());
        callers.spawn(async move {
            let mut done = 0;
            while done < 500 {
                match limiter.acquire().await {
                    Ok(permit) => {
                        let work = async {
                            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                            gauge.peak.fetch_max(now, Ordering::SeqCst);
                            yield_now().await;
                            inside.fetch_sub(1, Ordering::SeqCst);
                        };
                        permit.run(work).await;
                        done += 1;
                    }
                    Err(refused) => {
                        assert_eq!(refused, Refused::Busy);
                        yield_now().await;
                    }
                }
            }
        });
    }
    timeout(LIMIT, async {
        while callers.join_next().await.transpose().unwrap().is_some() {}
    })
    .await
    .expect("somebody waits for a permit that is lost");
    assert!(gauge.peak() <= 3, "{} at once", gauge.peak());
    // On real time, so not all that try may have been refused at the first look.
    let whole = async { while capacity(&limiter).await != (3, 4) {} };
    timeout(LIMIT, whole).await.expect("something is lost");
}

#[tokio::test(start_paused = true)]
async fn callers_get_their_turn_in_the_order_in_which_they_came() {
    let limiter = limiter(1, 10);
    let mut callers = JoinSet::new();
    for number in 0..10 {
        let limiter = limiter.clone();
        callers.spawn(async move {
            sleep(Duration::from_millis(9 - number)).await; // they come in reverse
            limiter.run(sleep(TAKES)).await.unwrap();
            number
        });
    }
    let mut order = Vec::new();
    while let Some(number) = callers.join_next().await {
        order.push(number.unwrap());
    }
    assert_eq!(order, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_overtake_those_who_wait() {
    let limiter = limiter(1, 2);
    let permit = limiter.acquire().await.unwrap();
    let mut waiting = pin!(limiter.acquire());
    timeout(TAKES, &mut waiting)
        .await
        .expect_err("the permit is out");
    drop(permit); // it is handed over to the one that waits
    timeout(TAKES, limiter.acquire())
        .await
        .expect_err("it overtook");
    drop(waiting.await.unwrap());
    drop(limiter.acquire().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn who_comes_when_as_many_wait_as_may_is_refused_at_once() {
    let limiter = limiter(2, 3);
    let started = Instant::now();
    assert_eq!(capacity(&limiter).await, (2, 3));
    assert_eq!(capacity(&limiter).await, (2, 3), "all of it was given back");
    assert_eq!(started.elapsed(), Duration::from_millis(2));
}

#[tokio::test(start_paused = true)]
async fn with_no_waiting_there_is_a_permit_now_or_a_refusal() {
    let limiter = limiter(1, 0);
    let permit = limiter.acquire().await.unwrap();
    assert_eq!(limiter.acquire().await.unwrap_err(), Refused::Busy);
    drop(permit);
    drop(limiter.acquire().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_panic_gives_the_permit_back() {
    let limiter = limiter(1, 1);
    let in_run = limiter.clone();
    let task = tokio::spawn(async move { in_run.run(async { panic!("broken") }).await });
    assert!(task.await.unwrap_err().is_panic());
    let permit = limiter.acquire().await.unwrap();
    let task = tokio::spawn(permit.run(async { panic!("broken") }));
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(capacity(&limiter).await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_aborted_task_gives_its_permit_back() {
    let limiter = limiter(1, 0);
    let task = tokio::spawn(limiter.acquire().await.unwrap().run(pending::<()>()));
    sleep(TAKES).await;
    assert_eq!(limiter.acquire().await.unwrap_err(), Refused::Busy);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(capacity(&limiter).await, (1, 0));
}

/// On its drop, says whether it found a permit.
struct Asks(Limiter, Arc<AtomicBool>);

impl Drop for Asks {
    fn drop(&mut self) {
        let got = futures_util::FutureExt::now_or_never(self.0.acquire());
        self.1.store(got.unwrap().is_ok(), Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn the_permit_is_out_until_what_the_work_owned_is_dropped() {
    let limiter = limiter(1, 0);
    let found = Arc::new(AtomicBool::new(false));
    let asks = || Asks(limiter.clone(), found.clone());

    let owned = asks();
    let work = async move {
        pending::<()>().await;
        drop(owned);
    };
    timeout(TAKES, limiter.run(work))
        .await
        .expect_err("it never ends");
    assert!(!found.load(Ordering::SeqCst), "cancelled");

    let owned = asks();
    limiter.run(async move { drop(owned) }).await.unwrap();
    assert!(!found.load(Ordering::SeqCst), "completed");

    drop(asks());
    assert!(found.load(Ordering::SeqCst), "it does notice");

    let (permit, owned) = (limiter.acquire().await.unwrap(), asks());
    drop(permit.run(async move { drop(owned) }));
    assert!(!found.load(Ordering::SeqCst), "never polled");
}

#[tokio::test(start_paused = true)]
async fn closed_it_refuses_those_who_wait_and_lets_the_running_finish() {
    let limiter = limiter(1, 1);
    let started = Instant::now();
    let close = async {
        sleep(TAKES / 2).await;
        limiter.close();
        assert_eq!(limiter.acquire().await.unwrap_err(), Refused::Closed);
    };
    let waits = async { (limiter.run(sleep(TAKES)).await, started.elapsed()) };
    let (running, waiting, ()) =
        tokio::join!(limiter.run(async { 7 + work().await }), waits, close);
    assert_eq!(running, Ok(7));
    assert_eq!(waiting, (Err(Refused::Closed), TAKES / 2));
    assert_eq!(limiter.run(async { 7 }).await, Err(Refused::Closed));
}

async fn work() -> u32 {
    sleep(TAKES).await;
    0
}

#[tokio::test(start_paused = true)]
async fn drained_it_waits_for_the_last_permit_and_refuses_all_others() {
    let limiter = limiter(3, 3);
    let started = Instant::now();
    for factor in 1..=3 {
        tokio::spawn(limiter.acquire().await.unwrap().run(sleep(factor * TAKES)));
    }
    let meanwhile = async {
        sleep(TAKES / 2).await;
        assert_eq!(limiter.acquire().await.unwrap_err(), Refused::Closed);
    };
    tokio::join!(limiter.drain(), limiter.drain(), meanwhile);
    assert_eq!(started.elapsed(), 3 * TAKES);
    limiter.drain().await; // again, with nothing to wait for
    assert_eq!(limiter.acquire().await.unwrap_err(), Refused::Closed);
    assert_eq!(started.elapsed(), 3 * TAKES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_runs_after_a_drain_that_races_with_callers() {
    for _ in 0..1_000 {
        let limiter = limiter(2, 2);
        let drained = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for _ in 0..4 {
            let (limiter, drained) = (limiter.clone(), drained.clone());
            callers.spawn(async move {
                let work = async {
                    yield_now().await;
                    assert!(!drained.load(Ordering::SeqCst), "it runs after the drain");
                };
                matches!(limiter.run(work).await, Ok(()) | Err(Refused::Closed))
            });
        }
        timeout(LIMIT, limiter.drain())
            .await
            .expect("it waits for nobody");
        drained.store(true, Ordering::SeqCst);
        while let Some(answer) = callers.join_next().await {
            assert!(
                answer.unwrap(),
                "refused as busy, though there was room for all"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn enormous_limits_are_no_panic() {
    for (running, waiting) in [(usize::MAX, usize::MAX), (1, usize::MAX), (usize::MAX, 0)] {
        let limiter = limiter(running, waiting);
        assert_eq!(limiter.run(async { 7 }).await, Ok(7));
        let (running, waiting) = capacity(&limiter).await;
        assert_eq!(running + waiting, 20);
        timeout(TAKES, limiter.drain())
            .await
            .expect("a permit is lost");
    }
}

/// Starts ten pieces of work with `start`, and returns how many ran at once.
async fn peak_of_ten(start: impl AsyncFn(Limiter, Arc<Gauge>)) -> usize {
    let (limiter, gauge) = (limiter(2, 10), Arc::new(Gauge::default()));
    for _ in 0..10 {
        start(limiter.clone(), gauge.clone()).await;
    }
    sleep(LIMIT).await; // virtual: all have ended
    gauge.peak()
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_is_not_named_or_not_moved_limits_nothing() {
    let held = peak_of_ten(async |limiter, gauge| {
        let permit = limiter.acquire().await.unwrap();
        tokio::spawn(permit.run(async move { gauge.work().await }));
    });
    assert_eq!(held.await, 2);

    let not_named = peak_of_ten(async |limiter, gauge| {
        tokio::spawn(async move {
            #[expect(
                clippy::let_underscore_must_use,
                let_underscore_drop,
                reason = "the harm"
            )]
            let _ = limiter.acquire().await;
            gauge.work().await;
        });
    });
    assert_eq!(not_named.await, 10);

    let not_moved = peak_of_ten(async |limiter, gauge| {
        let _permit = limiter.acquire().await.unwrap();
        tokio::spawn(async move { gauge.work().await });
    });
    assert_eq!(not_moved.await, 10);
}

/// Tasks alive at most, while 100,000 pieces of work are done, ten at a time.
async fn most_alive(acquire_first: bool) -> usize {
    let limiter = limiter(10, 100_000);
    let mut most = 0;
    for _ in 0..100_000 {
        if acquire_first {
            let permit = limiter.acquire().await.unwrap();
            tokio::spawn(permit.run(sleep(Duration::from_millis(1))));
        } else {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.run(sleep(Duration::from_millis(1))).await });
        }
        most = most.max(Handle::current().metrics().num_alive_tasks());
    }
    most
}

#[tokio::test(start_paused = true)]
async fn acquired_in_the_task_100_000_are_alive_and_acquired_before_it_10() {
    assert_eq!(most_alive(true).await, 10);
    sleep(TAKES).await;
    assert_eq!(most_alive(false).await, 100_000);
}

#[tokio::test(start_paused = true)]
async fn work_that_enters_its_own_limiter_waits_for_itself() {
    let limiter = limiter(2, 10);
    let outer = async || {
        sleep(TAKES).await;
        limiter.run(sleep(TAKES)).await
    };
    let nested = async || limiter.run(outer()).await;
    assert_eq!(nested().await, Ok(Ok(())), "alone it gets through");
    timeout(LIMIT, async { tokio::join!(nested(), nested()) })
        .await
        .expect_err("each holds the permit that the other needs");
}

#[tokio::test(start_paused = true)]
async fn a_permit_handed_to_a_future_that_nobody_polls_is_out() {
    let limiter = limiter(1, 10);
    let permit = limiter.acquire().await.unwrap();
    {
        let mut aside = pin!(limiter.acquire());
        timeout(TAKES, &mut aside).await.expect_err("it waits");
        drop(permit);
        timeout(LIMIT, limiter.acquire())
            .await
            .expect_err("nothing runs, and yet nobody gets in");
    }
    drop(limiter.acquire().await.unwrap()); // dropping the future has given it back
}

#[tokio::test(start_paused = true)]
async fn a_large_request_holds_back_the_small_ones_behind_it() {
    let semaphore = Semaphore::new(4);
    let started = Instant::now();
    let one = semaphore.acquire().await.unwrap();
    let leave = async {
        sleep(TAKES).await;
        drop(one);
    };
    let large = async { drop(semaphore.acquire_many(4).await.unwrap()) };
    let small = async {
        drop(semaphore.acquire().await.unwrap());
        started.elapsed()
    };
    let (_, _, small) = tokio::join!(leave, large, small);
    assert_eq!(small, TAKES, "three permits lay idle");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_acquire_has_no_permit_and_no_place() {
    let points = every_await_point(
        LIMIT,
        async || {
            let limiter = limiter(1, 1);
            let running = tokio::spawn(limiter.acquire().await.unwrap().run(sleep(TAKES)));
            (limiter, running)
        },
        async |(limiter, _)| limiter.acquire().await,
        async |(limiter, running), outcome: Outcome<Result<Permit, Refused>>| {
            running.await.unwrap();
            if let Outcome::Completed(permit) = outcome {
                assert_eq!(capacity(&limiter).await, (0, 1));
                drop(permit.unwrap());
            }
            assert_eq!(capacity(&limiter).await, (1, 1));
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_run_drops_the_work_and_gives_the_permit_back() {
    let points = every_await_point(
        LIMIT,
        async || {
            let limiter = limiter(1, 1);
            let running = tokio::spawn(limiter.acquire().await.unwrap().run(sleep(TAKES)));
            (limiter, running, Arc::new(()))
        },
        async |(limiter, _, alive)| {
            let held = Arc::clone(alive);
            let work = async move {
                sleep(TAKES).await;
                drop(held);
            };
            limiter.run(work).await
        },
        async |(limiter, running, alive), outcome| {
            assert_eq!(Arc::strong_count(&alive), 1, "the work is alive");
            running.await.unwrap();
            assert_eq!(capacity(&limiter).await, (1, 1));
            if let Outcome::Completed(result) = outcome {
                assert_eq!(result, Ok(()));
            }
        },
    )
    .await;
    assert!(points.unwrap() >= 2, "the wait for the permit and the work");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_permit_run_drops_the_work_and_gives_the_permit_back() {
    let points = every_await_point(
        LIMIT,
        async || {
            let limiter = limiter(1, 0);
            let permit = limiter.acquire().await.unwrap();
            (limiter, Some(permit))
        },
        async |(_, permit)| permit.take().unwrap().run(sleep(TAKES)).await,
        async |(limiter, _), _| assert_eq!(capacity(&limiter).await, (1, 0)),
    )
    .await;
    assert!(points.unwrap() >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_drain_has_closed_the_limiter_and_can_be_called_again() {
    let points = every_await_point(
        LIMIT,
        async || {
            let limiter = limiter(1, 1);
            let ends = Instant::now() + TAKES;
            tokio::spawn(limiter.acquire().await.unwrap().run(sleep(TAKES)));
            (limiter, ends)
        },
        async |(limiter, _)| limiter.drain().await,
        async |(limiter, ends), _| {
            assert_eq!(limiter.acquire().await.unwrap_err(), Refused::Closed);
            limiter.drain().await;
            assert_eq!(
                Instant::now(),
                ends,
                "it did not wait for the one that runs"
            );
        },
    )
    .await;
    assert!(points.unwrap() >= 1);
}
