//! What a layer of one's own promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::convert::Infallible;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use middleware::layer::{Deadline, DeadlineError, DeadlineLayer};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::task::{JoinSet, coop};
use tokio::time::{Instant, advance, sleep, timeout};
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

const LIMIT: Duration = Duration::from_secs(60);

const fn ms(of: u64) -> Duration {
    Duration::from_millis(of)
}

/// A request with a deadline, or none, that takes so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request {
    deadline: Option<Instant>,
    takes: Duration,
}

fn request(within: u64, takes: u64) -> Request {
    Request {
        deadline: Some(Instant::now() + ms(within)),
        takes: ms(takes),
    }
}

fn without_deadline(takes: u64) -> Request {
    Request {
        deadline: None,
        takes: ms(takes),
    }
}

fn deadline_of(request: &Request) -> Option<Instant> {
    request.deadline
}

fn layer() -> DeadlineLayer<fn(&Request) -> Option<Instant>> {
    DeadlineLayer::new::<Request>(deadline_of)
}

async fn work(request: Request) -> Result<&'static str, &'static str> {
    sleep(request.takes).await;
    Ok("done")
}

/// Sends all at once, and returns what came of each and when, in ms, in their order.
async fn outcomes<S>(service: S, requests: Vec<Request>) -> Vec<(Result<(), &'static str>, u128)>
where
    S: Service<Request> + Clone + Send + 'static,
    S::Error: Told + Send,
    S::Future: Send,
    S::Response: Send,
{
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for (index, request) in requests.into_iter().enumerate() {
        let call = service.clone().oneshot(request);
        calls.spawn(call.map(move |result| {
            let result = result.map(|_| ()).map_err(|error| error.told());
            (index, (result, started.elapsed().as_millis()))
        }));
    }
    let mut all = calls.join_all().await;
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}

trait Told {
    fn told(&self) -> &'static str;
}

impl<E> Told for DeadlineError<E> {
    fn told(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::CutOff => "cut off",
            Self::Inner(_) => "failed",
        }
    }
}

impl Told for BoxError {
    fn told(&self) -> &'static str {
        if self.is::<tower::timeout::error::Elapsed>() {
            "elapsed"
        } else {
            "failed"
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_is_cut_off_at_its_own_deadline() {
    let service = layer().layer(service_fn(work));
    let requests = vec![
        request(100, 101),
        request(30, 200),
        request(100, 99),
        without_deadline(1000),
    ];
    assert_eq!(
        outcomes(service, requests).await,
        [
            (Err("cut off"), 100),
            (Err("cut off"), 30),
            (Ok(()), 99),
            (Ok(()), 1000)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_its_deadline_is_not_begun() {
    let (mock, mut handle) = mock::pair::<Request, ()>();
    let mut service = layer().layer(mock);
    let late = request(100, 0);
    advance(ms(100)).await;
    let result = service.ready().await.unwrap().call(late).await;
    assert!(matches!(result, Err(DeadlineError::Expired)));
    assert!(handle.poll_request().is_pending());
    // A millisecond more, and it is begun.
    let in_time = request(1, 0);
    let call = tokio::spawn(service.ready().await.unwrap().call(in_time));
    let (begun, response) = handle.next_request().await.unwrap();
    assert_eq!(begun, in_time);
    response.send_response(());
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_deadline_counts_from_where_it_was_set_not_from_the_call() {
    let service = layer().layer(service_fn(work));
    let waited = request(100, 1000);
    advance(ms(70)).await;
    assert_eq!(
        outcomes(service, vec![waited]).await,
        [(Err("cut off"), 30)]
    );
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_when_the_inner_service_is_and_fails_as_it_does() {
    let (mut service, mut handle) = mock::spawn_layer::<Request, (), _>(layer());
    handle.allow(0);
    assert!(service.poll_ready::<Request>().is_pending());
    handle.allow(1);
    assert!(service.is_woken());
    assert!(service.poll_ready::<Request>().is_ready());

    let call = tokio::spawn(service.call(request(100, 0)));
    let (_, response) = handle.next_request().await.unwrap();
    response.send_error("broken");
    let Err(DeadlineError::Inner(error)) = call.await.unwrap() else {
        panic!("not the inner error");
    };
    assert_eq!(error.to_string(), "broken");

    handle.send_error("gone");
    let Poll::Ready(Err(DeadlineError::Inner(error))) = service.poll_ready::<Request>() else {
        panic!("not the inner error");
    };
    assert_eq!(error.to_string(), "gone");
}

#[tokio::test(start_paused = true)]
async fn the_inner_error_is_the_source() {
    let error = DeadlineError::Inner(std::io::Error::other("disk"));
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "disk");
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_is_dropped_at_once_though_its_future_is_kept() {
    for (takes, kind) in [(200, "cut off"), (50, "")] {
        let limited = ConcurrencyLimitLayer::new(1).layer(service_fn(work));
        let mut service = layer().layer(limited);
        let mut call = Box::pin(service.ready().await.unwrap().call(request(100, takes)));
        let told = call.as_mut().await.err().map_or("", |error| error.told());
        assert_eq!(told, kind);
        let next = service.ready().now_or_never();
        assert!(next.is_some(), "the future that has ended keeps the place");
        assert!(call.now_or_never().is_some(), "and no panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_leaves_nothing_behind() {
    let alive = Arc::new(());
    let points = every_await_point(
        LIMIT,
        async || {
            let held = Arc::clone(&alive);
            let service = layer().layer(service_fn(move |request| {
                let held = Arc::clone(&held);
                async move {
                    let result = work(request).await;
                    drop(held);
                    result
                }
            }));
            ConcurrencyLimitLayer::new(1).layer(service)
        },
        async |service| service.clone().oneshot(request(100, 50)).await,
        async |service, outcome| {
            if let Outcome::Completed(result) = outcome {
                assert_eq!(result, Ok("done"));
            }
            assert_eq!(
                Arc::strong_count(&alive),
                2,
                "only the service's own is left"
            );
            assert!(service.ready_oneshot().now_or_never().is_some());
        },
    )
    .await;
    assert_eq!(points.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_there_is_no_timer() {
    let mut service = layer().layer(service_fn(|_: Request| pending::<Result<(), Infallible>>()));
    let started = Instant::now();
    let call = service.ready().await.unwrap().call(without_deadline(0));
    timeout(LIMIT, call).await.unwrap_err();
    assert_eq!(started.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn layer_service_and_future_go_where_they_are_needed() {
    fn is_clone_and_send<T: Clone + Send + Sync + 'static>(value: T) -> T {
        value
    }
    let layer = is_clone_and_send(DeadlineLayer::new(|request: &Request| request.deadline));
    let service = is_clone_and_send(layer.layer(service_fn(work)));
    let _: &Deadline<_, _> = &service;
    let call = tokio::spawn(service.oneshot(request(100, 50)));
    assert_eq!(call.await.unwrap(), Ok("done"));
}

#[tokio::test(start_paused = true)]
async fn with_a_buffer_between_the_wait_for_a_place_is_cut_off_as_well() {
    let service = ServiceBuilder::new()
        .layer(layer())
        .buffer(10)
        .concurrency_limit(1)
        .service_fn(work);
    let requests = vec![without_deadline(1000), request(100, 10), request(200, 10)];
    assert_eq!(
        outcomes(service, requests).await,
        [(Ok(()), 1000), (Err("cut off"), 100), (Err("cut off"), 200)]
    );
}

#[tokio::test(start_paused = true)]
async fn harm_the_wait_in_poll_ready_is_not_cut_off() {
    let service = ServiceBuilder::new()
        .layer(layer())
        .concurrency_limit(1)
        .service_fn(work);
    let requests = vec![without_deadline(1000), request(100, 10)];
    assert_eq!(
        outcomes(service, requests).await,
        [(Ok(()), 1000), (Err("expired"), 1000)]
    );
}

#[tokio::test(start_paused = true)]
async fn harm_a_refused_request_keeps_the_place_that_was_reserved_for_it() {
    let limited = ConcurrencyLimitLayer::new(1).layer(service_fn(work));
    let mut service = layer().layer(limited.clone());
    let late = request(0, 0);
    let result = service.ready().await.unwrap().call(late).await;
    assert_eq!(result, Err(DeadlineError::Expired));
    let other = limited.clone().ready_oneshot().now_or_never();
    assert!(other.is_none(), "nobody works, and there is no place");
    // The next call uses it, and then it is free.
    assert_eq!(
        service.ready().await.unwrap().call(request(10, 1)).await,
        Ok("done")
    );
    assert!(limited.clone().ready_oneshot().now_or_never().is_some());
    // `oneshot` drops the service as soon as it has called it.
    let call = layer().layer(limited.clone()).oneshot(late);
    assert_eq!(call.await, Err(DeadlineError::Expired));
    assert!(limited.ready_oneshot().now_or_never().is_some());
}

/// Spends its whole budget in each of so many turns of 1 ms, as a loop on a channel does that is
/// never empty.
async fn greedy(turns: u64) {
    for _ in 0..turns {
        advance(Duration::from_millis(1)).now_or_never(); // on this virtual clock
        while coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        coop::consume_budget().await; // there is none left: it waits for the next turn
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_never_leaves_any_budget_is_cut_off_all_the_same() {
    // The turn that begins at 100 ms is the last.
    for (turns, ended) in [(90, (Ok(()), 90)), (1000, (Err("cut off"), 101))] {
        let service = layer().layer(service_fn(move |_: Request| {
            greedy(turns).map(Ok::<_, Infallible>)
        }));
        assert_eq!(outcomes(service, vec![request(100, 0)]).await, [ended]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_at_the_end_of_the_clock_is_no_panic() {
    let late = Request {
        deadline: Some(last_instant()),
        takes: LIMIT,
    };
    let service = layer().layer(service_fn(work));
    assert_eq!(service.oneshot(late).await, Ok("done"));
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
async fn harm_spawned_tasks_run_on_and_what_never_awaits_counts_however_late() {
    let done = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&done);
    let spawns = layer().layer(service_fn(move |_: Request| {
        let done = Arc::clone(&counts);
        async move {
            let task = tokio::spawn(async move {
                sleep(ms(200)).await;
                done.fetch_add(1, Ordering::Relaxed);
            });
            task.await
        }
    }));
    assert_eq!(
        outcomes(spawns, vec![request(100, 0)]).await,
        [(Err("cut off"), 100)]
    );
    assert_eq!(done.load(Ordering::Relaxed), 0);
    sleep(ms(101)).await;
    assert_eq!(done.load(Ordering::Relaxed), 1);

    // Computes for 500 ms on this virtual clock, without an await that could be cut off.
    let computes = layer().layer(service_fn(async |_: Request| {
        advance(ms(500)).now_or_never();
        Ok::<_, Infallible>(())
    }));
    assert_eq!(
        outcomes(computes, vec![request(100, 0)]).await,
        [(Ok(()), 500)]
    );
}

#[tokio::test(start_paused = true)]
async fn harm_time_limits_start_anew_at_each_service() {
    /// One service after the other.
    fn twice<S>(
        service: S,
    ) -> impl Service<Request, Error = S::Error, Response = (), Future: Send> + Clone
    where
        S: Service<Request> + Clone + Send + 'static,
        S::Error: Send,
        S::Response: Send,
        S::Future: Send,
    {
        service_fn(move |request| {
            let (first, second) = (service.clone(), service.clone());
            async move {
                first.oneshot(request).await?;
                second.oneshot(request).await.map(|_| ())
            }
        })
    }
    // Each is fast enough for its own limit.
    let requests = vec![request(100, 90)];
    let limited = twice(TimeoutLayer::new(ms(100)).layer(service_fn(work)));
    assert_eq!(outcomes(limited, requests.clone()).await, [(Ok(()), 180)]);

    let requests = vec![request(100, 90)];
    let limited = twice(layer().layer(service_fn(work)));
    assert_eq!(outcomes(limited, requests).await, [(Err("cut off"), 100)]);
}

#[tokio::test(start_paused = true)]
async fn harm_two_boxed_errors_are_not_told_apart() {
    let boxed = |outer, inner| {
        ServiceBuilder::new()
            .timeout(ms(outer))
            .timeout(ms(inner))
            .service_fn(work)
    };
    for (outer, inner) in [(50, 100), (100, 50)] {
        let told = outcomes(boxed(outer, inner), vec![without_deadline(200)]).await;
        assert_eq!(told, [(Err("elapsed"), 50)], "outer {outer}, inner {inner}");
    }
    // A deadline around one and one within: the type says whose it was.
    let soon = |_: &Request| Some(Instant::now() + ms(50));
    let nested = DeadlineLayer::new(soon).layer(layer().layer(service_fn(work)));
    let result = nested.oneshot(request(100, 200)).await;
    assert_eq!(result, Err(DeadlineError::CutOff));
    let nested = DeadlineLayer::new(soon).layer(layer().layer(service_fn(work)));
    let result = nested.oneshot(request(20, 200)).await;
    assert_eq!(result, Err(DeadlineError::Inner(DeadlineError::CutOff)));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_there_at_the_deadline_counts() {
    let service = layer().layer(service_fn(|_: Request| ready(Ok::<_, Infallible>(7))));
    let call = service.ready_oneshot().await.unwrap().call(request(10, 0));
    advance(ms(500)).await;
    assert_eq!(call.await, Ok(7));
}
