//! What a shared limit promises, and how a place of it gets lost.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::Request;
use middleware::concurrency_limit_layer::SharedLimit;
use testing::every_await_point::every_await_point;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};
use tower::buffer::Buffer;
use tower::limit::{ConcurrencyLimit, ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
use tower::load_shed::LoadShed;
use tower::load_shed::error::Overloaded;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const TAKES: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(3600);

fn limit_of(places: usize) -> SharedLimit {
    SharedLimit::new(NonZeroUsize::new(places).unwrap())
}

async fn work((): ()) -> Result<(), BoxError> {
    sleep(TAKES).await;
    Ok(())
}

macro_rules! limited {
    ($limit:expr) => {
        $limit.layer().layer(service_fn(work))
    };
}

/// Two calls of each service at once; when each was done, in milliseconds.
async fn two_calls_each<S>(services: [S; 2]) -> Vec<u128>
where
    S: Service<(), Response = (), Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for service in services.iter().chain(&services).cloned() {
        calls.spawn(async move {
            service.oneshot(()).await.unwrap();
            started.elapsed().as_millis()
        });
    }
    calls.join_all().await
}

#[tokio::test(start_paused = true)]
async fn harm_a_layer_used_twice_is_two_limits() {
    let layer = ConcurrencyLimitLayer::new(1);
    let services = [(); 2].map(|()| layer.layer(service_fn(work)));
    assert_eq!(two_calls_each(services).await, [100, 100, 200, 200]);
}

#[tokio::test(start_paused = true)]
async fn layers_of_one_limit_and_clones_of_a_service_share_its_places() {
    let limit = limit_of(1);
    let services = [limited!(limit), limited!(limit.clone())];
    assert_eq!(two_calls_each(services).await, [100, 200, 300, 400]);
    let limit = limit_of(3);
    let service = limited!(limit);
    let services = [service.clone(), service];
    assert_eq!(two_calls_each(services).await, [100, 100, 100, 200]);
}

#[tokio::test(start_paused = true)]
async fn harm_axum_lays_a_layer_around_each_route() {
    let answer = || async { sleep(TAKES).await };
    let routes = || {
        Router::new()
            .route("/a", get(answer))
            .route("/b", get(answer))
    };
    let both = async |router: Router| {
        let started = Instant::now();
        let call = |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request)
        };
        let (a, b) = tokio::join!(call("/a"), call("/b"));
        assert!(a.unwrap().status().is_success() && b.unwrap().status().is_success());
        started.elapsed()
    };
    let one_for_each = routes().layer(ConcurrencyLimitLayer::new(1));
    assert_eq!(
        both(one_for_each).await,
        TAKES,
        "two at once, of a limit of one"
    );
    assert_eq!(both(routes().layer(limit_of(1).layer())).await, 2 * TAKES);
}

#[tokio::test(start_paused = true)]
async fn a_place_comes_back_with_the_answer_the_error_the_drop_and_the_panic() {
    let limit = limit_of(1);
    let service = limit.layer().layer(service_fn(async |how: u8| {
        sleep(TAKES).await;
        assert_ne!(how, 3, "as asked");
        if how == 2 { Err("failed") } else { Ok(()) }
    }));
    let started = Instant::now();
    service.clone().oneshot(0).await.unwrap();
    service.clone().oneshot(2).await.unwrap_err();
    timeout(TAKES / 2, service.clone().oneshot(0))
        .await
        .unwrap_err();
    let panicked = tokio::spawn(service.clone().oneshot(3));
    assert!(panicked.await.unwrap_err().is_panic());
    assert_eq!((limit.taken(), limit.limit()), (0, 1));
    service.oneshot(0).await.unwrap();
    assert_eq!(
        started.elapsed(),
        9 * TAKES / 2,
        "nobody had to wait for a place"
    );
}

#[tokio::test(start_paused = true)]
async fn taken_counts_calls_under_way() {
    let limit = limit_of(3);
    let mut calls = JoinSet::new();
    for expected in 1..=3 {
        calls.spawn(limited!(limit).oneshot(()));
        yield_now().await;
        assert_eq!(limit.taken(), expected);
    }
    calls.spawn(limited!(limit).oneshot(()));
    yield_now().await;
    assert_eq!(limit.taken(), 3, "who waits has none");
    calls.join_all().await;
    assert_eq!(limit.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn harm_a_service_that_is_ready_and_not_called_keeps_a_place() {
    let limit = limit_of(1);
    let mut kept = limited!(limit);
    kept.ready().await.unwrap();
    assert_eq!(limit.taken(), 1);
    let call = limited!(limit).oneshot(());
    timeout(LONG, call)
        .await
        .expect_err("nobody works, and no place is free");
    // A clone has none of it; the end of the service that has it frees it.
    let clone = kept.clone();
    drop(kept);
    assert_eq!(limit.taken(), 0);
    timeout(TAKES, clone.oneshot(())).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn harm_a_wait_that_was_given_up_gets_the_place_if_its_service_is_kept() {
    for kept in [true, false] {
        let limit = limit_of(1);
        let busy = tokio::spawn(limited!(limit).oneshot(()));
        yield_now().await;
        let mut waiter = limited!(limit);
        if kept {
            timeout(TAKES / 2, waiter.ready())
                .await
                .map(drop)
                .unwrap_err();
        } else {
            let clone = waiter.clone();
            timeout(TAKES / 2, clone.oneshot(())).await.unwrap_err();
        }
        busy.await.unwrap().unwrap();
        assert_eq!(limit.taken(), usize::from(kept), "nothing is done any more");
        let next = timeout(LONG, limited!(limit).oneshot(())).await;
        assert_eq!(next.is_err(), kept);
        drop(waiter);
        assert_eq!(limit.taken(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn harm_a_buffer_above_keeps_the_place_of_a_request_that_it_dropped() {
    let limit = limit_of(1);
    let buffer = Buffer::new(limited!(limit), 10);
    let busy = tokio::spawn(limited!(limit).oneshot(()));
    yield_now().await;
    timeout(TAKES / 2, buffer.clone().oneshot(()))
        .await
        .unwrap_err();
    busy.await.unwrap().unwrap();
    sleep(TAKES).await;
    assert_eq!(
        limit.taken(),
        1,
        "the buffer's worker has it, and no request"
    );
    timeout(LONG, limited!(limit).oneshot(()))
        .await
        .unwrap_err();
    // The next request through the buffer uses it.
    timeout(2 * TAKES, buffer.oneshot(()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(limit.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn harm_silent_connections_that_were_shed_once_take_every_place() {
    let limit = limit_of(2);
    let mut calls = JoinSet::new();
    for _ in 0..2 {
        calls.spawn(limited!(limit).oneshot(()));
    }
    yield_now().await;
    // Two connections, each with a service of its own that it keeps between requests.
    let mut connections = [(); 2].map(|()| LoadShed::new(limited!(limit)));
    for connection in &mut connections {
        let error = connection
            .ready()
            .await
            .unwrap()
            .call(())
            .await
            .unwrap_err();
        assert!(error.is::<Overloaded>());
    }
    calls.join_all().await;
    sleep(LONG).await;
    assert_eq!(limit.taken(), 2, "there is no request in the whole process");
    let other = LoadShed::new(limited!(limit)).oneshot(()).await;
    assert!(other.unwrap_err().is::<Overloaded>());
}

#[tokio::test(start_paused = true)]
async fn harm_a_future_that_has_ended_keeps_its_place_until_it_is_dropped() {
    let limit = limit_of(1);
    let mut service = limited!(limit);
    {
        let mut call = pin!(service.ready().await.unwrap().call(()));
        call.as_mut().await.unwrap();
        assert_eq!(limit.taken(), 1);
    }
    assert_eq!(limit.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn harm_a_response_that_is_still_being_read_has_no_place() {
    let limit = limit_of(1);
    let download = service_fn(async |()| {
        let (chunks, body) = mpsc::channel(1);
        tokio::spawn(async move {
            sleep(TAKES).await;
            chunks.send(()).await
        });
        Ok::<_, BoxError>(body)
    });
    let service = limit.layer().layer(download);
    let mut bodies = Vec::new();
    for _ in 0..10 {
        bodies.push(service.clone().oneshot(()).await.unwrap());
    }
    assert_eq!(limit.taken(), 0);
    for mut body in bodies {
        assert_eq!(body.recv().await, Some(()), "ten downloads at once");
    }
}

#[tokio::test(start_paused = true)]
async fn harm_any_number_may_wait_for_any_time() {
    let limit = limit_of(1);
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..1000 {
        calls.spawn(limited!(limit).oneshot(()));
    }
    calls.join_all().await;
    assert_eq!(
        started.elapsed(),
        1000 * TAKES,
        "the last waited for 99.9 s"
    );
}

#[tokio::test]
async fn harm_closing_the_semaphore_of_the_layer_panics_in_the_next_request() {
    let places = Arc::new(Semaphore::new(1));
    let layer = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&places));
    let service: ConcurrencyLimit<_> = layer.layer(service_fn(work));
    places.close();
    let call = tokio::spawn(service.oneshot(()));
    assert!(call.await.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn an_enormous_limit_is_no_panic() {
    let limit = SharedLimit::new(NonZeroUsize::MAX);
    limited!(limit).oneshot(()).await.unwrap();
    assert_eq!((limit.taken(), limit.limit()), (0, Semaphore::MAX_PERMITS));
}

#[tokio::test(start_paused = true)]
async fn a_clone_dropped_at_any_await_leaves_no_place_taken() {
    let points = every_await_point(
        LONG,
        async || {
            let limit = limit_of(1);
            let busy = tokio::spawn(limited!(limit).oneshot(()));
            yield_now().await;
            (limit, busy)
        },
        async |(limit, _)| limited!(limit).oneshot(()).await.unwrap(),
        async |(limit, busy), _| {
            busy.await.unwrap().unwrap();
            assert_eq!(limit.taken(), 0);
        },
    )
    .await;
    assert_eq!(points.unwrap(), 3, "the wait for the place, and the work");
}
