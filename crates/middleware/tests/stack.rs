//! What the stack promises, and what each other order of its layers does.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::convert::Infallible;
use std::future::pending;
use std::marker::PhantomData;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use middleware::stack::{Settings, StackError, stack};
use testing::every_await_point::{Outcome, every_await_point};
use thiserror::Error;
use tokio::task::{JoinSet, coop, yield_now};
use tokio::time::{Instant, Sleep, advance, sleep, timeout};
use tower::limit::RateLimit;
use tower::load_shed::error::Overloaded;
use tower::retry::Policy;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

const LIMIT: Duration = Duration::from_secs(60);

const fn ms(of: u64) -> Duration {
    Duration::from_millis(of)
}

/// One at a time and room for all, so that each test sets only what it is about.
fn settings() -> Settings {
    Settings {
        time_limit: LIMIT,
        try_limit: LIMIT,
        queue: number(100),
        concurrency: number(1),
        per_second: NonZeroU64::new(1_000_000).unwrap(),
    }
}

fn number(of: usize) -> NonZeroUsize {
    NonZeroUsize::new(of).unwrap()
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("broken")]
struct Broken;

/// Tries so many times more, after a pause each time; keeps what it was told.
#[derive(Debug, Clone)]
struct Again {
    times: usize,
    pause: Duration,
    told: Arc<Mutex<Vec<String>>>,
}

impl Again {
    fn times(times: usize, pause: Duration) -> Self {
        Self {
            times,
            pause,
            told: Arc::default(),
        }
    }
}

const NEVER: fn() -> Again = || Again::times(0, Duration::ZERO);

impl<R: Copy, T, E: std::fmt::Display> Policy<R, T, E> for Again {
    type Future = Sleep;

    fn retry(&mut self, _: &mut R, result: &mut Result<T, E>) -> Option<Sleep> {
        let error = result.as_ref().err()?;
        self.told.lock().unwrap().push(error.to_string());
        self.times = self.times.checked_sub(1)?;
        Some(sleep(self.pause))
    }

    fn clone_request(&mut self, request: &R) -> Option<R> {
        Some(*request)
    }
}

/// A service that takes so many ms for a request, and notes when each was begun.
type Work = BoxFuture<'static, Result<u64, Broken>>;

fn noting() -> (
    Arc<Mutex<Vec<u128>>>,
    impl Service<u64, Response = u64, Error = Broken, Future = Work> + Clone + Send + 'static,
) {
    let (begun, started) = (Arc::new(Mutex::new(Vec::new())), Instant::now());
    let notes = Arc::clone(&begun);
    let service = service_fn(move |takes: u64| {
        let notes = Arc::clone(&notes);
        async move {
            notes.lock().unwrap().push(started.elapsed().as_millis());
            sleep(ms(takes)).await;
            Ok(takes)
        }
        .boxed()
    });
    (begun, service)
}

async fn work(takes: u64) -> Result<u64, Broken> {
    sleep(ms(takes)).await;
    Ok(takes)
}

/// Fails after so many ms.
async fn fail(takes: u64) -> Result<u64, Broken> {
    sleep(ms(takes)).await;
    Err(Broken)
}

trait Told {
    fn told(&self) -> &'static str;
}

impl<E> Told for StackError<E> {
    fn told(&self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::TimedOut => "timed out",
            Self::Inner(_) => "failed",
            Self::Closed(_) => "closed",
        }
    }
}

impl Told for BoxError {
    fn told(&self) -> &'static str {
        if self.is::<tower::timeout::error::Elapsed>() {
            "timed out"
        } else if self.is::<Overloaded>() {
            "overloaded"
        } else {
            "failed"
        }
    }
}

impl Told for Infallible {
    fn told(&self) -> &'static str {
        "never"
    }
}

/// Sends all at once, in their order; returns what came of each, and when.
async fn outcomes<S>(service: S, requests: &[u64]) -> Vec<(&'static str, u128)>
where
    S: Service<u64> + Clone + Send + 'static,
    S::Error: Told + Send,
    S::Future: Send,
    S::Response: Send,
{
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for (index, request) in requests.iter().enumerate() {
        let call = service.clone().oneshot(*request);
        calls.spawn(call.map(move |result| {
            let told = result.map_or_else(|error| error.told(), |_| "ok");
            (index, (told, started.elapsed().as_millis()))
        }));
        yield_now().await; // the buffer's worker has its turn, if there is one
    }
    let mut all = timeout(LIMIT * 2, calls.join_all())
        .await
        .expect("a call hangs");
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}

fn ok(at: impl IntoIterator<Item = u128>) -> Vec<(&'static str, u128)> {
    at.into_iter().map(|at| ("ok", at)).collect()
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_covers_the_wait_for_a_place() {
    let (begun, service) = noting();
    let service = stack(
        Settings {
            time_limit: ms(100),
            ..settings()
        },
        NEVER(),
        service,
    );
    let mut expected = vec![("timed out", 100); 10];
    expected[0] = ("ok", 80);
    assert_eq!(outcomes(service, &[80; 10]).await, expected);
    assert_eq!(*begun.lock().unwrap(), [0, 80], "the others were not begun");
}

#[tokio::test(start_paused = true)]
async fn harm_a_time_limit_around_the_concurrency_limit_begins_after_the_wait() {
    let naive = ServiceBuilder::new()
        .timeout(ms(100))
        .concurrency_limit(1)
        .service_fn(work);
    let one_after_another = ok((1..=10).map(|turn| turn * 80));
    assert_eq!(outcomes(naive, &[80; 10]).await, one_after_another);

    let below_the_buffer = ServiceBuilder::new()
        .buffer(10)
        .timeout(ms(100))
        .concurrency_limit(1)
        .service_fn(work);
    assert_eq!(
        outcomes(below_the_buffer, &[80; 10]).await,
        one_after_another
    );
}

#[tokio::test(start_paused = true)]
async fn a_buffer_or_a_oneshot_makes_the_wait_a_part_of_what_is_timed() {
    let mut expected = vec![("timed out", 100); 10];
    expected[0] = ("ok", 80);
    let buffered = ServiceBuilder::new()
        .timeout(ms(100))
        .buffer(10)
        .concurrency_limit(1)
        .service_fn(work);
    assert_eq!(outcomes(buffered, &[80; 10]).await, expected);

    let limited = ServiceBuilder::new().concurrency_limit(1).service_fn(work);
    let oneshot = ServiceBuilder::new()
        .timeout(ms(100))
        .service_fn(move |request| limited.clone().oneshot(request));
    assert_eq!(outcomes(oneshot, &[80; 10]).await, expected);
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_makes_room_at_once() {
    let service = stack(
        Settings {
            time_limit: ms(100),
            ..settings()
        },
        NEVER(),
        service_fn(work),
    );
    assert_eq!(
        outcomes(service.clone(), &[1000]).await,
        [("timed out", 100)]
    );
    assert_eq!(outcomes(service, &[80]).await, ok([80]));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once() {
    let service = stack(
        Settings {
            queue: number(2),
            concurrency: number(2),
            ..settings()
        },
        NEVER(),
        service_fn(work),
    );
    // Two work, one is next, two wait in the queue.
    let mut expected = ok([100, 100, 200, 200, 300]);
    expected.extend([("overloaded", 0), ("overloaded", 0)]);
    assert_eq!(outcomes(service.clone(), &[100; 7]).await, expected);
    assert_eq!(
        outcomes(service, &[100]).await,
        ok([100]),
        "and then it has room"
    );
}

#[tokio::test(start_paused = true)]
async fn clones_share_the_limits_and_the_stack_goes_where_it_is_needed() {
    fn is_clone_and_send<T: Clone + Send + Sync + 'static>(value: T) -> T {
        value
    }
    let service = is_clone_and_send(stack(settings(), NEVER(), service_fn(work)));
    let boxed = tower::util::BoxCloneSyncService::new(service.clone());
    let (one, other) = tokio::join!(outcomes(service, &[100; 2]), outcomes(boxed, &[100; 2]));
    let mut all = [one, other].concat();
    all.sort_unstable();
    assert_eq!(all, ok([100, 200, 300, 400]), "one place for both");
}

#[tokio::test(start_paused = true)]
async fn so_many_are_begun_in_a_second() {
    let (begun, service) = noting();
    let service = stack(
        Settings {
            concurrency: number(10),
            per_second: NonZeroU64::new(2).unwrap(),
            ..settings()
        },
        NEVER(),
        service,
    );
    assert_eq!(
        outcomes(service, &[10; 5]).await,
        ok([10, 10, 1010, 1010, 2010])
    );
    // A rate's timer is a millisecond coarse.
    let begun: Vec<_> = begun
        .lock()
        .unwrap()
        .iter()
        .map(|at| at / 10 * 10)
        .collect();
    assert_eq!(begun, [0, 0, 1000, 1000, 2000]);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_covers_the_wait_for_the_rate() {
    let service = stack(
        Settings {
            time_limit: ms(1500),
            concurrency: number(10),
            per_second: NonZeroU64::new(1).unwrap(),
            ..settings()
        },
        NEVER(),
        service_fn(work),
    );
    let expected = [("ok", 10), ("ok", 1010), ("timed out", 1500)];
    assert_eq!(outcomes(service, &[10; 3]).await, expected);
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_tried_again_as_the_policy_says() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let service = service_fn(move |takes| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move {
            if number < 2 {
                fail(takes).await
            } else {
                work(takes).await
            }
        }
    });
    let policy = Again::times(5, ms(30));
    let told = Arc::clone(&policy.told);
    let service = stack(settings(), policy, service);
    assert_eq!(
        outcomes(service, &[100]).await,
        ok([100 + 30 + 100 + 30 + 100])
    );
    assert_eq!(tries.load(Ordering::Relaxed), 3);
    assert_eq!(
        *told.lock().unwrap(),
        ["the service failed", "the service failed"]
    );
}

#[tokio::test(start_paused = true)]
async fn all_tries_share_the_time_limit() {
    let service = stack(
        Settings {
            time_limit: ms(100),
            ..settings()
        },
        Again::times(2, Duration::ZERO),
        service_fn(fail),
    );
    assert_eq!(outcomes(service, &[80]).await, [("timed out", 100)]);
}

#[tokio::test(start_paused = true)]
async fn harm_a_retry_outside_of_the_time_limit_multiplies_it() {
    let service = ServiceBuilder::new()
        .retry(Again::times(2, Duration::ZERO))
        .timeout(ms(100))
        .service_fn(work);
    assert_eq!(outcomes(service, &[1000]).await, [("timed out", 300)]);
}

#[tokio::test(start_paused = true)]
async fn a_try_that_hangs_is_tried_again_within_the_time_limit() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let service = service_fn(move |takes| {
        let hangs = count.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if hangs {
                pending().await
            } else {
                work(takes).await
            }
        }
    });
    let policy = Again::times(1, Duration::ZERO);
    let told = Arc::clone(&policy.told);
    let settings = Settings {
        try_limit: ms(50),
        ..settings()
    };
    // One place: without the limit of a try it would never be free again.
    let service = stack(settings, policy, service);
    assert_eq!(outcomes(service, &[40]).await, ok([90]));
    assert_eq!(*told.lock().unwrap(), ["timed out"]);
}

/// Spends its whole budget in each of so many turns of 1 ms, as a loop on a channel does that is
/// never empty.
async fn greedy(turns: u64) -> Result<u64, Broken> {
    for _ in 0..turns {
        advance(Duration::from_millis(1)).now_or_never(); // on this virtual clock
        while coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        coop::consume_budget().await; // there is none left: it waits for the next turn
    }
    Ok(turns)
}

#[tokio::test(start_paused = true)]
async fn both_limits_strike_on_work_that_never_leaves_any_budget() {
    for (time_limit, try_limit) in [(ms(100), LIMIT), (LIMIT, ms(100))] {
        let settings = Settings {
            time_limit,
            try_limit,
            ..settings()
        };
        let service = stack(settings, NEVER(), service_fn(greedy));
        // The turn that begins at 100 ms is the last.
        assert_eq!(outcomes(service, &[1000]).await, [("timed out", 101)]);
    }
}

#[tokio::test(start_paused = true)]
async fn harm_towers_limit_never_strikes_on_work_that_never_leaves_any_budget() {
    let naive = ServiceBuilder::new().timeout(ms(100)).service_fn(greedy);
    assert_eq!(outcomes(naive, &[1000]).await, ok([1000]));
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_a_try_begins_when_its_work_does() {
    let settings = Settings {
        try_limit: ms(50),
        ..settings()
    };
    let service = stack(settings, NEVER(), service_fn(work));
    let expected = [("ok", 40), ("ok", 80), ("ok", 120), ("timed out", 170)];
    assert_eq!(outcomes(service, &[40, 40, 40, 60]).await, expected);
}

/// Fails for 100 and is done with anything else.
async fn fails_for_100(takes: u64) -> Result<u64, Broken> {
    if takes == 100 {
        fail(takes).await
    } else {
        work(takes).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_between_tries_holds_no_place() {
    let policy = Again::times(1, ms(1000));
    let service = stack(settings(), policy, service_fn(fails_for_100));
    let expected = [("failed", 1200), ("ok", 150)];
    assert_eq!(outcomes(service, &[100, 50]).await, expected);
}

#[tokio::test(start_paused = true)]
async fn harm_a_retry_below_the_concurrency_limit_pauses_in_its_place() {
    let service = ServiceBuilder::new()
        .buffer(10)
        .concurrency_limit(1)
        .retry(Again::times(1, ms(1000)))
        .service_fn(fails_for_100);
    let expected = [("failed", 1200), ("ok", 1250)];
    assert_eq!(outcomes(service, &[100, 50]).await, expected);
}

#[tokio::test(start_paused = true)]
async fn each_try_counts_for_the_rate() {
    let (tries, service) = noting();
    let service = service.then(async |_| Err::<u64, _>(Broken));
    let settings = Settings {
        concurrency: number(10),
        per_second: NonZeroU64::new(3).unwrap(),
        ..settings()
    };
    let service = stack(settings, Again::times(2, Duration::ZERO), service);
    // Each second sees three tries, whoever makes them.
    outcomes(service, &[10; 3]).await;
    let tries: Vec<_> = tries.lock().unwrap().iter().map(|at| at / 1000).collect();
    assert_eq!(tries, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn harm_a_rate_limit_outside_of_the_retry_counts_no_tries() {
    let (tries, service) = noting();
    let service = ServiceBuilder::new()
        .buffer(10)
        .rate_limit(3, Duration::from_secs(1))
        .retry(Again::times(2, Duration::ZERO))
        .service(service.then(async |_| Err::<u64, _>(Broken)));
    outcomes(service, &[10; 3]).await;
    let tries = tries.lock().unwrap();
    assert_eq!(
        tries.iter().filter(|at| **at < 1000).count(),
        9,
        "three allowed"
    );
}

#[tokio::test(start_paused = true)]
async fn harm_load_shed_below_the_buffer_leaves_its_queue_empty() {
    let service = ServiceBuilder::new()
        .buffer(10)
        .load_shed()
        .concurrency_limit(1)
        .service_fn(work);
    let expected = [("ok", 100), ("overloaded", 0), ("overloaded", 0)];
    assert_eq!(
        outcomes(service, &[100; 3]).await,
        expected,
        "a queue of ten"
    );
    // And without any, the queue makes its callers wait: none is ever refused.
    let service = ServiceBuilder::new()
        .buffer(1)
        .concurrency_limit(1)
        .service_fn(work);
    assert_eq!(
        outcomes(service, &[100; 5]).await,
        ok([100, 200, 300, 400, 500])
    );
}

#[test]
fn harm_a_rate_limit_cannot_be_cloned() {
    struct Probe<T>(PhantomData<T>);
    trait Otherwise {
        const IS_CLONE: bool = false;
    }
    impl<T> Otherwise for Probe<T> {}
    impl<T: Clone> Probe<T> {
        const IS_CLONE: bool = true;
    }
    let _ = Probe::<()>(PhantomData);
    assert_eq!(
        (Probe::<u8>::IS_CLONE, Probe::<RateLimit<u8>>::IS_CLONE),
        (true, false)
    );
}

#[tokio::test(start_paused = true)]
async fn the_errors_are_told_apart_with_their_sources() {
    let service = stack(settings(), NEVER(), service_fn(fail));
    let Err(StackError::Inner(error)) = service.oneshot(1).await else {
        panic!("not the service's error");
    };
    assert_eq!(error, Broken);

    let (mock, mut handle) = mock::pair::<u64, u64>();
    handle.send_error("lost");
    let service = stack(settings(), NEVER(), mock.map_err(Lost));
    for _ in 0..2 {
        let closed = service.clone().oneshot(1).await.unwrap_err();
        assert_eq!(
            closed.told(),
            "closed",
            "an error of poll_ready ends the worker"
        );
        let error = std::error::Error::source(&closed).unwrap();
        assert_eq!(
            error.to_string(),
            "buffered service failed: the service failed"
        );
        let mut last = error;
        while let Some(source) = last.source() {
            last = source;
        }
        assert_eq!(last.to_string(), "mock: lost");
    }
}

#[derive(Debug, Error)]
#[error("mock: {0}")]
struct Lost(BoxError);

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_work_is_its_callers_alone() {
    let service = stack(
        settings(),
        NEVER(),
        service_fn(async |request: u64| {
            assert!(request != 13, "unlucky");
            work(request).await
        }),
    );
    let panicked = tokio::spawn(service.clone().oneshot(13)).await;
    assert!(panicked.unwrap_err().is_panic());
    assert_eq!(
        outcomes(service, &[80]).await,
        ok([80]),
        "and its place is free"
    );
}

#[tokio::test(start_paused = true)]
async fn harm_a_panic_in_call_itself_ends_all_calls() {
    let service = stack(
        settings(),
        NEVER(),
        service_fn(|request: u64| {
            assert!(request != 13, "unlucky");
            work(request)
        }),
    );
    let expected = [("ok", 80), ("closed", 80), ("closed", 80)];
    assert_eq!(outcomes(service.clone(), &[80, 13, 80]).await, expected);
    assert_eq!(outcomes(service, &[80]).await, [("closed", 0)]);
}

#[tokio::test(start_paused = true)]
async fn harm_a_burst_finds_only_the_queue() {
    let burst = async |queue| {
        let settings = Settings {
            queue: number(queue),
            concurrency: number(10),
            ..settings()
        };
        let service = stack(settings, NEVER(), service_fn(work));
        let mut calls = JoinSet::new();
        for _ in 0..10 {
            calls.spawn(service.clone().oneshot(80)); // all of them before the worker
        }
        let all = calls.join_all().await;
        all.iter().filter(|result| result.is_ok()).count()
    };
    assert_eq!(burst(4).await, 4, "all ten places were free");
    assert_eq!(burst(10).await, 10);
}

#[tokio::test(start_paused = true)]
async fn harm_who_gave_up_keeps_a_place_in_the_queue() {
    let settings = Settings {
        queue: number(2),
        ..settings()
    };
    let service = stack(settings, NEVER(), service_fn(work));
    let working = tokio::spawn(service.clone().oneshot(1000));
    yield_now().await;
    let mut gave_up = JoinSet::new();
    for _ in 0..3 {
        gave_up.spawn(service.clone().oneshot(10));
        yield_now().await;
    }
    gave_up.shutdown().await;
    assert_eq!(outcomes(service.clone(), &[10]).await, [("overloaded", 0)]);
    working.await.unwrap().unwrap();
    assert_eq!(
        outcomes(service, &[10]).await,
        ok([10]),
        "its turn came, and it is gone"
    );
}

#[tokio::test(start_paused = true)]
async fn harm_a_refused_clone_that_is_kept_takes_a_place_of_the_queue() {
    let plain = ServiceBuilder::new()
        .load_shed()
        .buffer(1)
        .concurrency_limit(1)
        .service_fn(work);
    let kept = refused_and_kept(plain.clone()).await;
    // Nothing works, nothing waits, and all are refused.
    assert_eq!(
        outcomes(plain.clone(), &[80; 2]).await,
        [("overloaded", 0); 2]
    );
    drop(kept);
    assert_eq!(outcomes(plain, &[80; 2]).await, ok([80, 160]));

    let settings = Settings {
        queue: number(1),
        ..settings()
    };
    let service = stack(settings, NEVER(), service_fn(work));
    let _kept = refused_and_kept(service.clone()).await;
    assert_eq!(outcomes(service, &[80; 2]).await, ok([80, 160]));
}

/// Fills a stack of one place and a queue of one, and lets a clone be refused, which it returns when
/// all is done.
async fn refused_and_kept<S>(service: S) -> S
where
    S: Service<u64> + Clone + Send + 'static,
    S::Error: Told + Send,
    S::Future: Send,
    S::Response: Send,
{
    let full = tokio::spawn(outcomes(service.clone(), &[80; 3]));
    sleep(ms(1)).await;
    let mut refused = service.clone();
    let call = refused.ready().await.map_err(|error| error.told()).unwrap();
    let result = call.call(80).await;
    assert_eq!(
        result.map(|_| ()).map_err(|error| error.told()),
        Err("overloaded")
    );
    assert_eq!(full.await.unwrap(), ok([80, 160, 240]));
    refused
}

#[tokio::test(start_paused = true)]
async fn harm_a_spent_budget_is_taken_for_a_full_queue() {
    async fn with_a_spent_budget<S>(service: S) -> &'static str
    where
        S: Service<u64> + Clone,
        S::Error: Told,
    {
        yield_now().await; // a new turn, with a whole budget
        while coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        let result = service.oneshot(80).await;
        result.map_or_else(|error| error.told(), |_| "ok")
    }
    let plain = ServiceBuilder::new()
        .load_shed()
        .buffer(10)
        .service_fn(work);
    let task = tokio::spawn(with_a_spent_budget(plain));
    assert_eq!(task.await.unwrap(), "overloaded", "the queue is empty");

    let service = stack(settings(), NEVER(), service_fn(work));
    let task = tokio::spawn(with_a_spent_budget(service));
    assert_eq!(task.await.unwrap(), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_leaves_the_place_to_others() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (begun, service) = noting();
            let settings = Settings {
                queue: number(1),
                ..settings()
            };
            let service = stack(settings, NEVER(), service);
            let working = tokio::spawn(service.clone().oneshot(80));
            yield_now().await;
            (service, working, begun)
        },
        async |(service, ..)| service.clone().oneshot(50).await,
        async |(service, working, begun), outcome| {
            let completed = matches!(outcome, Outcome::Completed(Ok(50)));
            assert_eq!(working.await.unwrap().unwrap(), 80);
            assert_eq!(outcomes(service, &[10]).await, ok([10]));
            let begun = begun.lock().unwrap().len();
            assert!(if completed { begun == 3 } else { begun <= 3 });
        },
    )
    .await;
    // The queue, the work, its end, and the budget before each of the last two.
    assert_eq!(points.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_it_waits_never_gets_to_the_service() {
    let (begun, service) = noting();
    let service = stack(settings(), NEVER(), service);
    let working = tokio::spawn(service.clone().oneshot(80));
    yield_now().await;
    timeout(ms(50), service.clone().oneshot(7))
        .await
        .unwrap_err();
    working.await.unwrap().unwrap();
    assert_eq!(outcomes(service, &[5]).await, ok([5]));
    assert_eq!(*begun.lock().unwrap(), [0, 80], "the one, and the last");
}

#[tokio::test(start_paused = true)]
async fn the_service_is_dropped_with_the_last_clone_and_the_last_call() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let service = service_fn(move |takes| {
        let held = Arc::clone(&held);
        async move {
            let _held = held;
            work(takes).await
        }
    });
    let service = stack(settings(), NEVER(), service);
    let call = tokio::spawn(service.clone().oneshot(80));
    yield_now().await;
    drop(service);
    assert_eq!(call.await.unwrap().unwrap(), 80);
    yield_now().await; // the worker has its turn
    assert_eq!(Arc::strong_count(&alive), 1, "the worker lives on");
}

/// A service that never becomes ready.
struct NeverReady(#[expect(dead_code, reason = "to see it dropped")] Arc<()>);

impl Service<u64> for NeverReady {
    type Response = u64;
    type Error = Broken;
    type Future = Work;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Pending
    }

    fn call(&mut self, takes: u64) -> Work {
        work(takes).boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_is_dropped_as_well() {
    let alive = Arc::new(());
    let service = stack(settings(), NEVER(), NeverReady(Arc::clone(&alive)));
    assert_eq!(outcomes(service, &[1]).await, [("timed out", 60_000)]);
    yield_now().await;
    assert_eq!(Arc::strong_count(&alive), 1, "the worker lives on");

    // With tower's own buffer it is kept for ever, though nobody is left who could call it.
    let service = ServiceBuilder::new()
        .buffer(1)
        .service(NeverReady(Arc::clone(&alive)));
    timeout(LIMIT, service.oneshot(1)).await.unwrap_err();
    yield_now().await;
    assert_eq!(Arc::strong_count(&alive), 2);
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_a_full_queue_and_is_not_refused() {
    let policy = Again::times(1, ms(10));
    let told = Arc::clone(&policy.told);
    let settings = Settings {
        queue: number(1),
        ..settings()
    };
    let service = stack(settings, policy, service_fn(fails_for_100));
    // When the first one tries again, one works, one is next and one is in the queue.
    let started = Instant::now();
    let first = tokio::spawn(service.clone().oneshot(100));
    sleep(ms(50)).await;
    let others = outcomes(service, &[70, 70, 70]).await;
    assert_eq!(others, [("ok", 120), ("ok", 190), ("overloaded", 0)]);
    assert!(matches!(
        first.await.unwrap(),
        Err(StackError::Inner(Broken))
    ));
    assert_eq!(started.elapsed(), ms(340));
    assert_eq!(
        *told.lock().unwrap(),
        ["the service failed", "the service failed"]
    );
}

#[tokio::test(start_paused = true)]
async fn enormous_settings_are_no_panic() {
    let settings = Settings {
        time_limit: Duration::MAX,
        try_limit: Duration::MAX,
        queue: NonZeroUsize::MAX,
        concurrency: NonZeroUsize::MAX,
        per_second: NonZeroU64::MAX,
    };
    let service = stack(settings, NEVER(), service_fn(work));
    assert_eq!(outcomes(service, &[80; 3]).await, ok([80; 3]));
}

/// A service that is not `Clone`, as a connection is not.
struct Connection(u64);

impl Service<u64> for Connection {
    type Response = u64;
    type Error = Broken;
    type Future = BoxFuture<'static, Result<u64, Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, takes: u64) -> Self::Future {
        self.0 += 1;
        let number = self.0;
        work(takes)
            .map(move |result| result.map(|_| number))
            .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_clone_serves_all_clones() {
    let service = stack(settings(), NEVER(), Connection(0));
    for expected in 1..=3 {
        assert_eq!(service.clone().oneshot(10).await.unwrap(), expected);
    }
}

#[test]
fn outside_of_a_runtime_it_panics() {
    let panic = std::panic::catch_unwind(|| drop(stack(settings(), NEVER(), service_fn(work))));
    assert!(panic.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_late_poll_of_the_caller_does_not_change_who_won() {
    let settings = Settings {
        time_limit: ms(100),
        ..settings()
    };
    let service = stack(
        settings,
        NEVER(),
        service_fn(async |_: u64| Ok::<_, Broken>(7)),
    );
    let call = tokio::spawn(service.oneshot(0));
    yield_now().await;
    advance(ms(500)).await;
    assert_eq!(call.await.unwrap().unwrap(), 7, "it was done in time");
}
