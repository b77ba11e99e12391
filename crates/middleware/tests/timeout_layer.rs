//! What a time limit before a service covers, and what it does not.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use middleware::timeout_layer::{TimeLimitLayer, is_elapsed};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, coop};
use tokio::time::{Instant, advance, sleep, timeout};
use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
use tower::load_shed::LoadShedLayer;
use tower::load_shed::error::Overloaded;
use tower::timeout::TimeoutLayer;
use tower::timeout::error::Elapsed;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const LIMIT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(3600);

async fn answer(takes: u64) -> Result<u64, BoxError> {
    sleep(Duration::from_millis(takes)).await;
    Ok(takes)
}

/// Ten callers at once; when each was done, and whether it was answered.
async fn ten_callers<S>(service: S) -> Vec<(u128, bool)>
where
    S: Service<u64, Response = u64, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let service = service.clone();
        callers.spawn(async move {
            let result = service.oneshot(80).await;
            if let Err(error) = &result {
                assert!(is_elapsed(error.as_ref()), "{error}");
            }
            (started.elapsed().as_millis(), result.is_ok())
        });
    }
    callers.join_all().await
}

#[tokio::test(start_paused = true)]
async fn harm_towers_limit_alone_does_not_count_the_wait_for_a_place() {
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(LIMIT))
        .layer(ConcurrencyLimitLayer::new(1));
    let ended = ten_callers(stack.service(service_fn(answer))).await;
    let expected: Vec<_> = (1..=10).map(|nth| (80 * nth, true)).collect();
    assert_eq!(ended, expected, "the last waits for 800 ms of 100");
}

#[tokio::test(start_paused = true)]
async fn the_limit_covers_the_wait_for_a_place() {
    let stack = ServiceBuilder::new()
        .layer(TimeLimitLayer::new(LIMIT))
        .layer(ConcurrencyLimitLayer::new(1));
    let ended = ten_callers(stack.service(service_fn(answer))).await;
    let mut expected = vec![(80, true)];
    expected.extend([(100, false); 9]);
    assert_eq!(ended, expected);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_with_the_limit_is_one() {
    let service = TimeLimitLayer::new(LIMIT).layer(service_fn(answer));
    let started = Instant::now();
    assert_eq!(service.clone().oneshot(100).await.unwrap(), 100);
    assert_eq!(started.elapsed(), LIMIT);
    let error = service.oneshot(101).await.unwrap_err();
    assert!(is_elapsed(error.as_ref()));
    assert_eq!(started.elapsed(), 2 * LIMIT);
}

/// Spends its whole budget in each of so many turns of 1 ms, as a loop on a channel does that is
/// never empty.
async fn greedy(turns: u64) -> Result<u64, BoxError> {
    for _ in 0..turns {
        advance(Duration::from_millis(1)).now_or_never(); // on this virtual clock
        while coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        coop::consume_budget().await; // there is none left: it waits for the next turn
    }
    Ok(turns)
}

/// Whether work of 1,000 ms that never leaves any budget was answered, and when.
async fn a_greedy_call<S>(service: S) -> (bool, u128)
where
    S: Service<u64, Response = u64, Error = BoxError> + Send + 'static,
    S::Future: Send,
{
    let started = Instant::now();
    let result = tokio::spawn(service.oneshot(1000)).await.unwrap();
    (result.is_ok(), started.elapsed().as_millis())
}

#[tokio::test(start_paused = true)]
async fn work_that_never_leaves_any_budget_is_cut_off_all_the_same() {
    let service = TimeLimitLayer::new(LIMIT).layer(service_fn(greedy));
    // The turn that begins at 100 ms is the last.
    assert_eq!(a_greedy_call(service).await, (false, 101));
}

#[tokio::test(start_paused = true)]
async fn harm_towers_limit_never_strikes_on_work_that_never_leaves_any_budget() {
    let service = TimeoutLayer::new(LIMIT).layer(service_fn(greedy));
    assert_eq!(a_greedy_call(service).await, (true, 1000));
}

#[tokio::test(start_paused = true)]
async fn limits_of_nothing_and_of_ever_are_no_panic() {
    let none = TimeLimitLayer::new(Duration::ZERO).layer(service_fn(answer));
    assert!(none.clone().oneshot(0).await.is_ok(), "ready at once");
    none.oneshot(1).await.unwrap_err();
    let ever = TimeLimitLayer::new(Duration::MAX).layer(service_fn(answer));
    assert_eq!(ever.oneshot(1_000_000).await.unwrap(), 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn the_work_stops_at_the_limit_and_its_place_is_free_in_the_same_instant() {
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let work = service_fn(move |()| {
        let alive = alive.clone();
        async move {
            let _alive = alive;
            pending::<Result<(), BoxError>>().await
        }
    });
    let places = Arc::new(Semaphore::new(1));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&places));
    let service = TimeLimitLayer::new(LIMIT).layer(limit.layer(work));
    let started = Instant::now();
    service.oneshot(()).await.unwrap_err();
    assert_eq!(ended.recv().await, None);
    assert_eq!((places.available_permits(), started.elapsed()), (1, LIMIT));
}

#[tokio::test(start_paused = true)]
async fn harm_what_the_work_spawned_runs_on() {
    let (done, mut is_done) = mpsc::channel(1);
    let work = service_fn(move |()| {
        let done = done.clone();
        async move {
            let task = tokio::spawn(async move {
                sleep(3 * LIMIT).await;
                done.send("charged").await.unwrap();
            });
            task.await.map_err(BoxError::from)
        }
    });
    let started = Instant::now();
    let service = TimeLimitLayer::new(LIMIT).layer(work);
    service.oneshot(()).await.unwrap_err();
    assert_eq!(started.elapsed(), LIMIT);
    assert_eq!(is_done.recv().await, Some("charged"));
    assert_eq!(started.elapsed(), 3 * LIMIT);
}

#[derive(Debug)]
struct Upstream(BoxError);

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("upstream")
    }
}

impl std::error::Error for Upstream {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref())
    }
}

#[tokio::test(start_paused = true)]
async fn the_limits_error_is_told_from_the_services_own_and_found_below_another() {
    let service = TimeLimitLayer::new(LIMIT).layer(service_fn(answer));
    let error = service.oneshot(200).await.unwrap_err();
    assert!(error.is::<Elapsed>() && is_elapsed(error.as_ref()));
    assert!(is_elapsed(&Upstream(error)), "wrapped by somebody above");

    let fails = service_fn(async |()| Err::<(), _>(Upstream("refused".into())));
    let service = TimeLimitLayer::new(LIMIT).layer(fails);
    let error = service.oneshot(()).await.unwrap_err();
    assert!(error.is::<Upstream>() && !is_elapsed(error.as_ref()));
}

#[tokio::test(start_paused = true)]
async fn harm_tokios_error_of_the_same_name_is_another_type() {
    let service = TimeLimitLayer::new(LIMIT).layer(service_fn(answer));
    let error = service.oneshot(200).await.unwrap_err();
    assert!(!error.is::<tokio::time::error::Elapsed>());
}

#[tokio::test(start_paused = true)]
async fn harm_the_error_does_not_tell_which_of_two_limits_struck() {
    let mut messages = Vec::new();
    for (outer, inner) in [(100, 200), (200, 100)] {
        let stack = ServiceBuilder::new()
            .layer(TimeLimitLayer::new(Duration::from_millis(outer)))
            .layer(TimeLimitLayer::new(Duration::from_millis(inner)));
        let error = stack.service(service_fn(answer)).oneshot(300).await;
        messages.push(format!("{:?}", error.unwrap_err()));
    }
    assert_eq!(messages[0], messages[1]);
}

#[tokio::test(start_paused = true)]
async fn harm_what_is_read_from_the_response_has_no_limit() {
    let slow_body = service_fn(async |()| {
        let (lines, body) = mpsc::channel(1);
        tokio::spawn(async move {
            sleep(10 * LIMIT).await;
            lines.send("line").await.unwrap();
        });
        Ok::<_, BoxError>(body)
    });
    let started = Instant::now();
    let service = TimeLimitLayer::new(LIMIT).layer(slow_body);
    let mut body = service.oneshot(()).await.unwrap();
    assert_eq!(body.recv().await, Some("line"));
    assert_eq!(started.elapsed(), 10 * LIMIT);
}

#[tokio::test(start_paused = true)]
async fn harm_load_shed_above_it_sheds_nothing_and_below_it_all_that_is_too_much() {
    let (limit, shed) = (TimeLimitLayer::new(LIMIT), LoadShedLayer::new());
    let one_at_a_time = ConcurrencyLimitLayer::new(1).layer(service_fn(answer));
    let above = shed.layer(limit.layer(one_at_a_time.clone()));
    let below = limit.layer(shed.layer(one_at_a_time));
    assert_eq!(shed_of_ten(above).await, 0);
    assert_eq!(shed_of_ten(below).await, 9);
}

async fn shed_of_ten<S>(service: S) -> usize
where
    S: Service<u64, Response = u64, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        callers.spawn(service.clone().oneshot(80));
    }
    let results = callers.join_all().await;
    let errors = results.into_iter().filter_map(Result::err);
    errors.filter(|error| error.is::<Overloaded>()).count()
}

#[tokio::test(start_paused = true)]
async fn harm_a_call_left_lying_uses_its_time_up() {
    let mut service = TimeLimitLayer::new(LIMIT).layer(service_fn(answer));
    let lying = service.ready().await.unwrap().call(80);
    sleep(Duration::from_millis(60)).await;
    let polled = Instant::now();
    assert!(is_elapsed(lying.await.unwrap_err().as_ref()));
    assert_eq!(polled.elapsed(), Duration::from_millis(40));
}

#[derive(Clone)]
struct Broken;

impl Service<()> for Broken {
    type Response = Infallible;
    type Error = BoxError;
    type Future = std::future::Pending<Result<Infallible, BoxError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Err("gone".into()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        pending()
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_poll_ready_comes_out_of_the_call() {
    let mut service = TimeLimitLayer::new(LIMIT).layer(Broken);
    let error = service.ready().await.unwrap().call(()).await.unwrap_err();
    assert_eq!(error.to_string(), "gone");
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_await_a_call_leaves_no_place_taken() {
    let points = every_await_point(
        LONG,
        async || {
            let places = Arc::new(Semaphore::new(1));
            let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&places));
            // Somebody has the place for the first 50 ms.
            let busy = limit.layer(service_fn(answer));
            tokio::spawn(busy.oneshot(50));
            tokio::task::yield_now().await;
            let service = TimeLimitLayer::new(LIMIT).layer(limit.layer(service_fn(answer)));
            (places, service)
        },
        async |(_, service)| service.clone().oneshot(10).await.unwrap(),
        async |(places, service), outcome| {
            sleep(LIMIT).await;
            assert_eq!(places.available_permits(), 1, "a place is lost");
            timeout(LIMIT, service.oneshot(10)).await.unwrap().unwrap();
            assert!(!matches!(outcome, Outcome::Completed(takes) if takes != 10));
        },
    )
    .await;
    assert_eq!(points.unwrap(), 4);
}
