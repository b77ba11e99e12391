//! What is shed, when, and what tower's own layer sheds or takes by mistake.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use middleware::concurrency_limit_layer::SharedLimit;
use middleware::load_shed_layer::{Shed, ShedLayer};
use middleware::timeout_layer::TimeLimitLayer;
use testing::every_await_point::{Outcome, every_await_point};
use tokio::task::{JoinSet, coop, yield_now};
use tokio::time::{Instant, sleep, timeout};
use tower::buffer::Buffer;
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::load_shed::error::Overloaded;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const TAKES: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(3600);

async fn work((): ()) -> Result<(), BoxError> {
    sleep(TAKES).await;
    Ok(())
}

macro_rules! limit {
    ($limit:expr) => {
        $limit.layer().layer(service_fn(work))
    };
}

fn limit_of(places: usize) -> SharedLimit {
    SharedLimit::new(NonZeroUsize::new(places).unwrap())
}

/// `number` requests at once; when each answered one was done, in milliseconds, and how many were
/// shed, all of them at once.
async fn all_at_once<S>(service: &S, number: usize) -> (Vec<u128>, usize)
where
    S: Service<(), Response = (), Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..number {
        let service = service.clone();
        calls.spawn(async move {
            let result = service.oneshot(()).await;
            (started.elapsed(), result)
        });
        yield_now().await;
    }
    let (mut answered, mut shed) = (Vec::new(), 0);
    for (elapsed, result) in calls.join_all().await {
        match result {
            Ok(()) => answered.push(elapsed.as_millis()),
            Err(error) => {
                assert!(error.is::<Overloaded>(), "{error}");
                assert_eq!(elapsed, Duration::ZERO, "it waited before it was shed");
                shed += 1;
            }
        }
    }
    (answered, shed)
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_place_is_shed_at_once_and_counted_in_all_services() {
    let (layer, limit) = (ShedLayer::new(), limit_of(2));
    let (one, other) = (
        layer.layer(limit!(limit)),
        layer.clone().layer(limit!(limit)),
    );
    assert_eq!(all_at_once(&one, 5).await, (vec![100, 100], 3));
    assert_eq!(layer.shed(), 3);
    assert_eq!(all_at_once(&other, 3).await, (vec![100, 100], 1));
    assert_eq!(layer.shed(), 4);
}

#[tokio::test(start_paused = true)]
async fn with_a_small_buffer_below_some_may_wait_and_the_rest_is_shed() {
    let layer = ShedLayer::new();
    let limited = ConcurrencyLimit::new(service_fn(work), 2);
    let service = layer.layer(Buffer::new(limited, 2));
    // Two run, one is in the worker's hand, two are in the queue.
    let expected = (vec![100, 100, 200, 200, 300], 5);
    assert_eq!(all_at_once(&service, 10).await, expected);
    assert_eq!(layer.shed(), 5);
}

#[tokio::test(start_paused = true)]
async fn harm_a_small_buffer_sheds_of_a_burst_what_its_worker_has_not_seen_yet() {
    let layer = ShedLayer::new();
    let service = layer.layer(Buffer::new(service_fn(work), 2));
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        calls.spawn(service.clone().oneshot(()));
    }
    let results = calls.join_all().await;
    assert_eq!(results.iter().filter(|it| it.is_ok()).count(), 2);
    assert_eq!(layer.shed(), 4, "the service would have taken all six");
}

#[tokio::test(start_paused = true)]
async fn harm_a_large_buffer_below_hides_the_overload() {
    let layer = ShedLayer::new();
    let limited = ConcurrencyLimit::new(service_fn(work), 1);
    let service = layer.layer(Buffer::new(limited, 1000));
    let (answered, shed) = all_at_once(&service, 1000).await;
    assert_eq!(
        (answered.last(), shed),
        (Some(&100_000), 0),
        "the last waited for 99.9 s"
    );
}

#[tokio::test(start_paused = true)]
async fn harm_above_a_service_that_is_always_ready_it_sheds_nothing() {
    let layer = ShedLayer::new();
    let limited = ConcurrencyLimit::new(service_fn(work), 1);
    let service = layer.layer(TimeLimitLayer::new(LONG).layer(limited));
    assert_eq!(all_at_once(&service, 10).await.1, 0);

    let answer = axum::routing::get(|| async { sleep(TAKES).await });
    let router = axum::Router::new().route("/", answer);
    let router = router.layer(limit_of(1).layer());
    let service = layer.layer(router);
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        calls.spawn(
            service
                .clone()
                .oneshot(http::Request::new(axum::body::Body::empty())),
        );
    }
    assert!(calls.join_all().await.iter().all(Result::is_ok));
    assert_eq!((layer.shed(), started.elapsed()), (0, 10 * TAKES));
}

/// Two services that are kept between requests are shed once. Then all is quiet.
async fn places_taken_after_kept_services_were_shed<S>(
    limit: SharedLimit,
    shed: impl Fn() -> S,
) -> usize
where
    S: Service<(), Response = (), Error = BoxError>,
{
    let busy = [(); 2].map(|()| tokio::spawn(limit!(limit).oneshot(())));
    yield_now().await;
    let mut kept = [shed(), shed()];
    for service in &mut kept {
        let result = service.ready().await.unwrap().call(()).await;
        assert!(result.unwrap_err().is::<Overloaded>());
    }
    for call in busy {
        call.await.unwrap().unwrap();
    }
    sleep(LONG).await;
    limit.taken()
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_shed_and_is_kept_takes_no_place() {
    let (layer, limit) = (ShedLayer::new(), limit_of(2));
    let shed = || layer.layer(limit!(limit));
    assert_eq!(
        places_taken_after_kept_services_were_shed(limit.clone(), shed).await,
        0
    );
}

#[tokio::test(start_paused = true)]
async fn harm_with_towers_layer_it_takes_the_next_one_that_is_free() {
    let limit = limit_of(2);
    let shed = || LoadShed::new(limit!(limit));
    assert_eq!(
        places_taken_after_kept_services_were_shed(limit.clone(), shed).await,
        2
    );
}

/// An idle buffer, asked by a task that has used up its turn. How the call ended.
async fn in_a_busy_task<S>(shed: impl FnOnce(Buffer<(), BoxedWork>) -> S) -> Result<(), BoxError>
where
    S: Service<(), Response = (), Error = BoxError> + Send + 'static,
    S::Future: Send,
{
    let boxed = service_fn(|()| -> BoxedWork { Box::pin(work(())) });
    let service = shed(Buffer::new(boxed, 10));
    let busy = tokio::spawn(async move {
        while coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        service.oneshot(()).await
    });
    busy.await.unwrap()
}

type BoxedWork = futures_util::future::BoxFuture<'static, Result<(), BoxError>>;

#[tokio::test(start_paused = true)]
async fn harm_towers_layer_sheds_what_an_idle_buffer_would_take_if_its_task_is_busy() {
    let error = in_a_busy_task(LoadShed::new).await.unwrap_err();
    assert!(error.is::<Overloaded>());
}

#[tokio::test(start_paused = true)]
async fn a_busy_task_is_asked_again_and_nothing_is_shed() {
    let layer = ShedLayer::new();
    in_a_busy_task(|buffer| layer.layer(buffer)).await.unwrap();
    assert_eq!(layer.shed(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_busy_task_is_shed_all_the_same_if_there_is_no_place() {
    let limited = ConcurrencyLimit::new(service_fn(work), 1);
    let buffer = Buffer::new(limited, 1);
    let mut filling = JoinSet::new();
    for _ in 0..4 {
        filling.spawn(buffer.clone().oneshot(()));
        yield_now().await;
    }
    let layer = ShedLayer::new();
    let service: Shed<_> = layer.layer(buffer);
    let busy = tokio::spawn(async move {
        while coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        service.oneshot(()).await
    });
    let shed = timeout(TAKES / 2, busy)
        .await
        .expect("it is asked for ever");
    assert!(shed.unwrap().unwrap_err().is::<Overloaded>());
    assert_eq!(layer.shed(), 1);
}

#[derive(Clone)]
struct Broken;

impl Service<()> for Broken {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Err("gone".into()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn other_errors_come_as_they_are_and_are_not_counted() {
    let layer = ShedLayer::new();
    let error = layer.layer(Broken).oneshot(()).await.unwrap_err();
    assert_eq!(error.to_string(), "gone");
    let failing = service_fn(async |()| Err::<(), BoxError>("failed".into()));
    let error = layer.layer(failing).oneshot(()).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), layer.shed()), ("failed", 0));
}

#[tokio::test(start_paused = true)]
async fn harm_the_error_of_a_second_layer_below_looks_the_same() {
    let (above, below) = (ShedLayer::new(), ShedLayer::new());
    let service = above.layer(below.layer(limit!(limit_of(1))));
    assert_eq!(all_at_once(&service, 2).await, (vec![100], 1));
    assert_eq!((above.shed(), below.shed()), (0, 1), "the counts tell");
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_await_a_call_gives_its_place_back_and_is_not_counted() {
    let points = every_await_point(
        LONG,
        async || (ShedLayer::new(), limit_of(1)),
        async |(layer, limit)| layer.layer(limit!(limit)).oneshot(()).await.unwrap(),
        async |(layer, limit), outcome| {
            assert_eq!((layer.shed(), limit.taken()), (0, 0));
            let again = timeout(TAKES, layer.layer(limit!(limit)).oneshot(())).await;
            assert!(again.is_ok(), "{outcome:?}");
            let _: Outcome<()> = outcome;
        },
    )
    .await;
    assert_eq!(points.unwrap(), 2);
}
