//! What the policy tries again, when, and who pays; and what tower's parts do by themselves.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::pending;
use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use middleware::concurrency_limit_layer::SharedLimit;
use middleware::retry_layer::{Limits, budget, retry_layer};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower::retry::backoff::{
    Backoff, ExponentialBackoff, ExponentialBackoffMaker, InvalidBackoff, MakeBackoff,
};
use tower::retry::budget::{Budget, TpsBudget};
use tower::retry::{Policy, RetryLayer};
use tower::timeout::{Timeout, TimeoutLayer};
use tower::util::rng::{HasherRng, Rng};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Error {
    Busy,
    BusyFor(Duration),
    Never,
}

fn judge<R, T>(_: &R, result: &Result<T, Error>) -> Option<Duration> {
    match result {
        Err(Error::Busy) => Some(Duration::ZERO),
        Err(Error::BusyFor(wait)) => Some(*wait),
        Ok(_) | Err(Error::Never) => None,
    }
}

fn limits(retries: u32, base: Duration, cap: Duration) -> Limits {
    Limits { retries, base, cap }
}

/// Enough for every retry of a test.
fn rich() -> Arc<TpsBudget> {
    budget(NonZeroU16::MIN, u16::MAX)
}

fn one_in(requests: u16) -> NonZeroU16 {
    NonZeroU16::new(requests).unwrap()
}

/// Fails so many times and then succeeds; the instants of the tries, from the first one.
async fn tries_of(limits: Limits, failures: &[Error]) -> (Vec<Duration>, Result<(), Error>) {
    let (started, mut times) = (Instant::now(), Vec::new());
    let (tries, mut tried) = mpsc::channel(100);
    let mut failures = failures.iter().copied();
    let failures = Arc::new(std::sync::Mutex::new(move || failures.next()));
    let service = service_fn(move |()| {
        tries.try_send(started.elapsed()).unwrap();
        let next = failures.lock().unwrap()();
        async move { next.map_or(Ok(()), Err) }
    });
    let result = retry_layer(limits, rich(), judge)
        .layer(service)
        .oneshot(())
        .await;
    tried.recv_many(&mut times, 100).await;
    (times, result)
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_and_what_cannot_is_not() {
    let limits = limits(3, Duration::ZERO, SECOND);
    for (failures, tries, result) in [
        (&[][..], 1, Ok(())),
        (&[Error::Busy; 3][..], 4, Ok(())),
        (&[Error::Busy; 4][..], 4, Err(Error::Busy)),
        (&[Error::Never][..], 1, Err(Error::Never)),
        (&[Error::Busy, Error::Never][..], 2, Err(Error::Never)),
    ] {
        let (times, ended) = tries_of(limits, failures).await;
        assert_eq!((times.len(), ended), (tries, result), "{failures:?}");
    }
    let none = Limits {
        retries: 0,
        ..limits
    };
    assert_eq!(tries_of(none, &[Error::Busy]).await.0.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_judge_sees_the_request_and_a_success_too() {
    let judge = |name: &&str, result: &Result<u16, Infallible>| match result {
        Ok(503) if *name == "get" => Some(Duration::ZERO),
        _ => None,
    };
    for (name, expected) in [("get", 3), ("post", 1)] {
        let tries = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&tries);
        let service = service_fn(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok(503) }
        });
        let limits = limits(2, MS, MS);
        let service = retry_layer(limits, rich(), judge).layer(service);
        assert_eq!(service.oneshot(name).await, Ok(503));
        assert_eq!(tries.load(Ordering::Relaxed), expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_wait_is_a_random_one_up_to_a_ceiling_that_doubles_up_to_the_cap() {
    fastrand::seed(1);
    let limits = limits(4, SECOND, 3 * SECOND);
    let mut waits: [Vec<Duration>; 4] = Default::default();
    for _ in 0..300 {
        let (times, _) = tries_of(limits, &[Error::Busy; 5]).await;
        for (waits, pair) in waits.iter_mut().zip(times.windows(2)) {
            waits.push(pair[1] - pair[0]);
        }
    }
    for (waits, ceiling) in waits.iter().zip([1, 2, 3, 3].map(|times| times * SECOND)) {
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*most <= ceiling + MS, "{most:?} of {ceiling:?}");
        assert!(*most > ceiling.mul_f64(0.95), "{most:?} of {ceiling:?}");
        assert!(*least < ceiling.mul_f64(0.05), "{least:?} of {ceiling:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_other_sides_wait_is_kept_and_chance_is_added_to_it() {
    fastrand::seed(2);
    let limits = limits(1, SECOND, 10 * SECOND);
    let mut waits = Vec::new();
    for _ in 0..100 {
        let (times, _) = tries_of(limits, &[Error::BusyFor(10 * SECOND)]).await;
        waits.push(times[1]);
    }
    assert!(
        waits
            .iter()
            .all(|wait| (10 * SECOND..=11 * SECOND + MS).contains(wait))
    );
    assert!(*waits.iter().max().unwrap() > 10 * SECOND + 900 * MS);

    let (times, result) = tries_of(limits, &[Error::BusyFor(10 * SECOND + MS)]).await;
    assert_eq!(
        times.len(),
        1,
        "longer than the cap: it is not worth waiting for"
    );
    assert!(result.is_err());
}

#[tokio::test(start_paused = true)]
async fn enormous_limits_neither_overflow_nor_panic() {
    let most = limits(u32::MAX, Duration::MAX, Duration::MAX);
    let ever = tries_of(most, &[Error::BusyFor(Duration::MAX)]);
    assert!(timeout(LONG, ever).await.is_err(), "it waits");
    let capped = limits(3, Duration::MAX, MS);
    assert_eq!(tries_of(capped, &[Error::Busy; 4]).await.0.len(), 4);
    let often = limits(90, MS, MS);
    assert_eq!(tries_of(often, &[Error::Busy; 91]).await.0.len(), 91);
}

// ------------------------------------------------------------------------------------ in step

/// A policy with tower's own backoff, as its documentation puts it together.
#[derive(Clone)]
struct TowersOwn<R>(ExponentialBackoffMaker<R>, Option<ExponentialBackoff<R>>);

impl<R: Rng + Clone, T> Policy<(), T, Error> for TowersOwn<R> {
    type Future = tokio::time::Sleep;

    fn retry(&mut self, (): &mut (), result: &mut Result<T, Error>) -> Option<Self::Future> {
        result.as_ref().err()?;
        let backoff = self.1.get_or_insert_with(|| self.0.make_backoff());
        Some(backoff.next_backoff())
    }

    fn clone_request(&mut self, (): &()) -> Option<()> {
        Some(())
    }
}

/// A thousand clients that fail together `failures` times; when each came for the last time.
async fn a_thousand<P>(policy: RetryLayer<P>, failures: usize) -> Vec<u128>
where
    P: Policy<(), u128, Error> + Clone + Send + 'static,
    P::Future: Send,
{
    let mut clients = JoinSet::new();
    let started = Instant::now();
    for _ in 0..1000 {
        let tries = AtomicUsize::new(0);
        let client = service_fn(move |()| {
            let number = tries.fetch_add(1, Ordering::Relaxed);
            async move {
                let now = started.elapsed().as_millis();
                if number < failures {
                    Err(Error::Busy)
                } else {
                    Ok(now)
                }
            }
        });
        let client = Arc::new(tokio::sync::Mutex::new(client));
        let shared = service_fn(move |()| {
            let client = Arc::clone(&client);
            async move { client.lock().await.call(()).await }
        });
        clients.spawn(policy.layer(shared).oneshot(()));
    }
    clients
        .join_all()
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

fn distinct(times: &[u128]) -> usize {
    times.iter().collect::<HashSet<_>>().len()
}

fn towers_own<R: Rng>(
    base: Duration,
    cap: Duration,
    jitter: f64,
    random: R,
) -> RetryLayer<TowersOwn<R>> {
    let maker = ExponentialBackoffMaker::new(base, cap, jitter, random);
    RetryLayer::new(TowersOwn(maker.unwrap(), None))
}

#[tokio::test(start_paused = true)]
async fn harm_a_thousand_requests_with_towers_jitter_come_back_together() {
    let random = HasherRng::default();
    let policy = towers_own(999 * MS, 60 * SECOND, 0.99, random);
    for failures in [1, 2, 3] {
        let times = a_thousand(policy.clone(), failures).await;
        assert_eq!(distinct(&times), 1, "after {failures} failures");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_with_this_policy_do_not() {
    fastrand::seed(3);
    let limits = limits(3, SECOND, 60 * SECOND);
    let times = a_thousand(retry_layer(limits, rich(), judge), 1).await;
    // A thousand throws into a thousand milliseconds hit about 632 of them.
    assert!(distinct(&times) > 550, "{}", distinct(&times));
}

/// A generator whose clones differ, which is all that tower's backoff lacks here.
#[derive(Clone)]
struct OfTheThread;

impl Rng for OfTheThread {
    fn next_u64(&mut self) -> u64 {
        fastrand::u64(1..)
    }
}

#[tokio::test(start_paused = true)]
async fn harm_whole_seconds_and_the_maximum_get_no_jitter_from_tower() {
    fastrand::seed(4);
    let policy = |base, cap| towers_own(base, cap, 0.99, OfTheThread);
    let times = a_thousand(policy(999 * MS, 60 * SECOND), 1).await;
    assert!(distinct(&times) > 550, "the generator is not the cause");
    let times = a_thousand(policy(SECOND, 60 * SECOND), 1).await;
    assert_eq!(distinct(&times), 1, "one second");
    let times = a_thousand(policy(999 * MS, 999 * MS), 1).await;
    assert_eq!(distinct(&times), 1, "the maximum");
}

#[test]
fn harm_the_makers_backoffs_are_in_the_same_state() {
    let mut random = HasherRng::default();
    let mut clone = random.clone();
    assert_eq!(
        [(); 3].map(|()| random.next_u64()),
        [(); 3].map(|()| clone.next_u64())
    );
    let invalid: Result<_, InvalidBackoff> =
        ExponentialBackoffMaker::new(SECOND, MS, 0.0, HasherRng::default());
    assert!(
        invalid.is_err(),
        "this one has an error where the budget has a panic"
    );
}

// ------------------------------------------------------------------------------------ the budget

/// Requests that all fail, one after another; how many were sent.
async fn sent_in_an_outage(requests: usize, budget: Arc<TpsBudget>) -> usize {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let service = service_fn(move |()| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Err::<(), _>(Error::Busy) }
    });
    let layer = retry_layer(limits(3, Duration::ZERO, Duration::ZERO), budget, judge);
    for _ in 0..requests {
        layer.layer(service.clone()).oneshot(()).await.unwrap_err();
    }
    sent.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn an_outage_adds_a_share_to_the_load_and_not_three_times_as_much() {
    assert_eq!(sent_in_an_outage(1000, rich()).await, 4000);
    assert_eq!(sent_in_an_outage(1000, budget(one_in(10), 0)).await, 1100);
    assert_eq!(sent_in_an_outage(1000, budget(one_in(3), 0)).await, 1333);
    assert_eq!(sent_in_an_outage(9, budget(one_in(10), 0)).await, 9);
}

#[tokio::test(start_paused = true)]
async fn those_who_send_few_may_retry_at_a_rate_and_may_use_ten_seconds_of_it_at_once() {
    let budget = budget(one_in(u16::MAX), 2);
    assert_eq!(sent_in_an_outage(100, Arc::clone(&budget)).await, 120);
    assert_eq!(sent_in_an_outage(100, Arc::clone(&budget)).await, 100);
    sleep(5 * SECOND).await;
    assert_eq!(sent_in_an_outage(100, Arc::clone(&budget)).await, 100);
    sleep(7 * SECOND).await;
    assert_eq!(sent_in_an_outage(100, budget).await, 120);
}

#[tokio::test(start_paused = true)]
async fn what_requests_paid_is_forgotten_after_ten_seconds() {
    let budget = budget(one_in(10), 0);
    let pay = async || {
        let service = service_fn(async |()| Ok::<_, Error>(()));
        let layer = retry_layer(limits(1, MS, MS), Arc::clone(&budget), judge);
        for _ in 0..10 {
            layer.layer(service).oneshot(()).await.unwrap();
        }
    };
    for (after, sent) in [(9, 2), (12, 1)] {
        pay().await;
        sleep(after * SECOND).await;
        assert_eq!(sent_in_an_outage(1, Arc::clone(&budget)).await, sent);
        sleep(60 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_tried_again_takes_nothing_from_the_budget() {
    let budget = budget(one_in(1), 0);
    let fail = |error, retries| {
        let service = service_fn(move |()| async move { Err::<(), _>(error) });
        retry_layer(limits(retries, MS, MS), Arc::clone(&budget), judge).layer(service)
    };
    fail(Error::Never, 9).oneshot(()).await.unwrap_err();
    fail(Error::Busy, 0).oneshot(()).await.unwrap_err();
    fail(Error::BusyFor(SECOND), 9)
        .oneshot(())
        .await
        .unwrap_err();
    assert_eq!(
        [(); 4].map(|()| budget.withdraw()),
        [true, true, true, false]
    );
}

#[test]
fn one_in_so_many_is_exact_for_every_number() {
    for requests in 1..=u16::MAX {
        let shown = format!("{:?}", budget(one_in(requests), 0));
        let expected = format!("Budget {{ deposit: 1, withdraw: {requests}, balance: 0 }}");
        assert_eq!(shown, expected);
    }
    // What the half is for: left to tower, one in seven is one in six.
    let shown = format!("{:?}", TpsBudget::new(10 * SECOND, 0, 1.0 / 7.0));
    assert!(shown.contains("withdraw: 6,"), "{shown}");
}

#[test]
fn harm_towers_budget_panics_for_arguments_out_of_range() {
    for (ttl, share) in [
        (SECOND - MS, 0.1),
        (61 * SECOND, 0.1),
        (SECOND, -0.1),
        (SECOND, f32::NAN),
    ] {
        let made = std::panic::catch_unwind(|| TpsBudget::new(ttl, 0, share));
        assert!(made.is_err(), "{ttl:?}, {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn harm_a_share_of_twenty_is_not_per_cent_and_six_tenths_are_all() {
    let retries = async |share| {
        let budget = TpsBudget::new(10 * SECOND, 0, share);
        for _ in 0..100 {
            budget.deposit();
        }
        std::iter::repeat_with(|| budget.withdraw())
            .take_while(|paid| *paid)
            .count()
    };
    assert_eq!(retries(0.2).await, 20);
    assert_eq!(retries(20.0).await, 2000);
    assert_eq!(retries(0.4).await, 50);
    assert_eq!(retries(0.6).await, 100);
}

#[tokio::test(start_paused = true)]
async fn harm_a_deposit_for_each_try_lets_retries_pay_for_retries() {
    #[derive(Clone)]
    struct EachTry(Arc<TpsBudget>);
    impl Policy<(), (), Error> for EachTry {
        type Future = std::future::Ready<()>;
        fn retry(&mut self, (): &mut (), _: &mut Result<(), Error>) -> Option<Self::Future> {
            self.0.deposit();
            self.0.withdraw().then(|| std::future::ready(()))
        }
        fn clone_request(&mut self, (): &()) -> Option<()> {
            Some(())
        }
    }
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let service = service_fn(move |()| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Err(Error::Busy) }
    });
    let layer = RetryLayer::new(EachTry(budget(one_in(2), 0)));
    for _ in 0..1000 {
        layer.layer(service.clone()).oneshot(()).await.unwrap_err();
    }
    assert_eq!(
        sent.load(Ordering::Relaxed),
        1999,
        "with a budget of one in two"
    );
}

// ------------------------------------------------------------------------------------ the service

#[tokio::test(start_paused = true)]
async fn before_each_try_the_service_is_asked_whether_it_is_ready() {
    let (mock, mut handle) = tower_test::mock::pair::<&str, &str>();
    let judge =
        |_: &&str, result: &Result<&str, BoxError>| result.is_err().then_some(Duration::ZERO);
    let service = retry_layer(limits(9, MS, MS), rich(), judge).layer(mock);
    handle.allow(1);
    let call = tokio::spawn(service.oneshot("hello"));
    let (request, answer) = handle.next_request().await.unwrap();
    assert_eq!(request, "hello");
    answer.send_error("busy");
    timeout(LONG, handle.next_request())
        .await
        .map(drop)
        .expect_err("it is not ready");
    handle.allow(1);
    let (request, answer) = handle.next_request().await.unwrap();
    assert_eq!(request, "hello", "the same request again");
    answer.send_error("busy");
    sleep(SECOND).await;
    // It fails where it is asked: that is the answer, with seven retries left.
    handle.send_error("gone");
    let error = timeout(LONG, call).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "gone");
}

#[tokio::test(start_paused = true)]
async fn harm_a_limit_above_holds_its_place_while_a_retry_waits_and_one_below_does_not() {
    for above in [true, false] {
        let places = SharedLimit::new(NonZeroUsize::MIN);
        let retry = retry_layer(limits(1, Duration::ZERO, SECOND), rich(), judge);
        let busy = service_fn(async |()| Err::<(), _>(Error::BusyFor(SECOND)));
        if above {
            tokio::spawn(places.layer().layer(retry.layer(busy)).oneshot(()));
        } else {
            tokio::spawn(retry.layer(places.layer().layer(busy)).oneshot(()));
        }
        sleep(SECOND / 2).await;
        assert_eq!(places.taken(), usize::from(above));
    }
}

#[tokio::test(start_paused = true)]
async fn harm_a_silent_try_is_never_tried_again_without_a_limit_below() {
    let judge = |(): &(), result: &Result<(), BoxError>| result.is_err().then_some(Duration::ZERO);
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let silent = service_fn(move |()| {
        count.fetch_add(1, Ordering::Relaxed);
        pending::<Result<(), BoxError>>()
    });
    let retry = retry_layer(limits(2, Duration::ZERO, SECOND), rich(), judge);
    let call = retry.layer(silent.clone()).oneshot(());
    timeout(LONG, call)
        .await
        .expect_err("one try, and nobody ends it");
    assert_eq!(tries.swap(0, Ordering::Relaxed), 1);

    let started = Instant::now();
    let each = TimeoutLayer::new(SECOND);
    retry
        .layer(each.layer(silent.clone()))
        .oneshot(())
        .await
        .unwrap_err();
    assert_eq!(tries.swap(0, Ordering::Relaxed), 3);
    assert_eq!(started.elapsed(), 3 * SECOND, "they add up");
    let in_all = Timeout::new(retry.layer(each.layer(silent)), 2 * SECOND + MS);
    in_all.oneshot(()).await.unwrap_err();
    assert_eq!(started.elapsed(), 5 * SECOND + MS);
}

#[tokio::test(start_paused = true)]
async fn harm_the_request_is_cloned_before_each_try_and_the_last_one_too() {
    struct Request(Arc<AtomicUsize>);
    impl Clone for Request {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, Ordering::Relaxed);
            Self(Arc::clone(&self.0))
        }
    }
    let clones = Arc::new(AtomicUsize::new(0));
    let service = service_fn(async |_: Request| Err::<(), _>(Error::Busy));
    let retry = retry_layer(limits(2, MS, MS), rich(), judge);
    let request = Request(Arc::clone(&clones));
    retry.layer(service).oneshot(request).await.unwrap_err();
    assert_eq!(clones.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn dropped_while_it_waits_a_request_is_not_tried_again() {
    let points = every_await_point(
        LONG,
        async || Arc::new(AtomicUsize::new(0)),
        async |tries| {
            let count = Arc::clone(tries);
            let service = service_fn(move |()| {
                let number = count.fetch_add(1, Ordering::Relaxed);
                async move { if number < 2 { Err(Error::Busy) } else { Ok(()) } }
            });
            let retry = retry_layer(limits(3, SECOND, SECOND), rich(), judge);
            retry.layer(service).oneshot(()).await.unwrap();
        },
        async |tries, outcome| {
            let before = tries.load(Ordering::Relaxed);
            sleep(LONG / 2).await;
            assert_eq!(tries.load(Ordering::Relaxed), before);
            assert_eq!(matches!(outcome, Outcome::Completed(())), before == 3);
        },
    )
    .await;
    assert_eq!(
        points.unwrap(),
        4,
        "two waits, each with a want of budget before it"
    );
}
