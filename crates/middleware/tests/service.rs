//! What services by hand promise.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::convert::Infallible;
use std::future::ready;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use middleware::service::{Limited, LimitedError, Prepare, take_ready};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower::limit::ConcurrencyLimit;
use tower::{BoxError, Service, ServiceExt, service_fn};
use tower_test::assert_request_eq;
use tower_test::mock::{self, Mock, Spawn};

const LIMIT: Duration = Duration::from_secs(60);
const TAKES: Duration = Duration::from_millis(100);

fn limit(of: usize) -> NonZeroUsize {
    NonZeroUsize::new(of).unwrap()
}

async fn slow(request: u32) -> Result<u32, Infallible> {
    sleep(TAKES).await;
    Ok(request)
}

/// Sends so many requests at once, and returns when their responses came, in ms.
async fn times<S>(service: S, requests: u32) -> Vec<u128>
where
    S: Service<u32, Response = u32> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: std::fmt::Debug + Send,
{
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for request in 0..requests {
        let call = service.clone().oneshot(request);
        calls.spawn(async move {
            assert_eq!(call.await.unwrap(), request);
            started.elapsed().as_millis()
        });
    }
    let mut times = calls.join_all().await;
    times.sort_unstable();
    times
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_limit_run_at_once() {
    let service = Limited::new(limit(2), slow);
    assert_eq!(times(service, 5).await, [100, 100, 200, 200, 300]);
}

#[tokio::test(start_paused = true)]
async fn a_full_service_is_not_ready_and_wakes_the_caller_when_it_is() {
    let service = Limited::new(limit(1), slow);
    let mut caller = Spawn::new(service.clone());
    let running = tokio::spawn(service.oneshot(1));
    tokio::task::yield_now().await;
    assert!(caller.poll_ready::<u32>().is_pending());
    assert!(!caller.is_woken());
    assert_eq!(running.await.unwrap(), Ok(1));
    assert!(caller.is_woken());
    assert_eq!(caller.poll_ready::<u32>(), Poll::Ready(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn asked_twice_it_takes_one_place() {
    for places in [1, 2] {
        let mut service = Limited::new(limit(places), slow);
        for _ in 0..10 {
            let ready = service.ready().now_or_never();
            assert!(ready.is_some(), "it waits for a place, and has one");
        }
        let other = service.clone().ready_oneshot().now_or_never();
        assert_eq!(other.is_some(), places == 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_uses_the_readiness_up() {
    let mut service = Limited::new(limit(2), slow);
    let first = service.ready().await.unwrap().call(1);
    let second = service.call(2);
    assert_eq!(second.await, Err(LimitedError::NotReady));
    assert_eq!(first.await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn the_readiness_of_one_clone_is_not_the_others() {
    let mut service = Limited::new(limit(2), slow);
    service.ready().await.unwrap();
    let mut clone = service.clone();
    assert_eq!(clone.call(1).await, Err(LimitedError::NotReady));
    assert_eq!(service.call(2).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_call_before_it_is_ready_does_not_begin_the_work() {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let mut service = Limited::new(limit(1), move |_: u32| {
        count.fetch_add(1, Ordering::Relaxed);
        slow(0)
    });
    assert_eq!(service.call(1).await, Err(LimitedError::NotReady));
    assert_eq!(begun.load(Ordering::Relaxed), 0);
    assert_eq!(service.ready().await.unwrap().call(1).await, Ok(0));
    assert_eq!(begun.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reserved_place_is_free_again_when_the_service_is_dropped() {
    let service = Limited::new(limit(1), slow);
    let reserved = service.clone().ready_oneshot().await.unwrap();
    let mut other = Spawn::new(service);
    assert!(other.poll_ready::<u32>().is_pending());
    drop(reserved);
    assert!(other.is_woken());
    assert!(other.poll_ready::<u32>().is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_place_is_free_when_the_work_ends_though_its_future_is_kept() {
    let mut service = Limited::new(limit(1), slow);
    let mut call = Box::pin(service.ready().await.unwrap().call(1));
    assert_eq!(call.as_mut().await, Ok(1));
    let next = service.ready().now_or_never();
    assert!(next.is_some(), "the future that has ended keeps its place");
    assert_eq!(call.await, Err(LimitedError::NotReady), "and no panic");
}

#[tokio::test(start_paused = true)]
async fn what_the_work_owns_is_gone_before_its_place_is_free() {
    type Look = Box<dyn Fn() -> bool + Send + Sync>;
    struct Owned(Arc<OnceLock<Look>>, Arc<AtomicUsize>);
    impl Drop for Owned {
        fn drop(&mut self) {
            let is_full = self.0.get().unwrap()();
            self.1.fetch_add(usize::from(is_full), Ordering::Relaxed);
        }
    }
    let (look, full) = (Arc::new(OnceLock::<Look>::new()), Arc::default());
    let (looks, counts) = (Arc::clone(&look), Arc::clone(&full));
    let service = Limited::new(limit(1), move |request| {
        let owned = Owned(Arc::clone(&looks), Arc::clone(&counts));
        // Not an async block, which would drop it at its own end.
        KeepsUntilDropped(owned, Box::pin(slow(request)))
    });
    let other = service.clone();
    let is_full = move || other.clone().ready_oneshot().now_or_never().is_none();
    assert!(look.set(Box::new(is_full)).is_ok());
    assert_eq!(service.oneshot(1).await, Ok(1));
    assert_eq!(full.load(Ordering::Relaxed), 1);
}

/// A future that drops `0` when it is dropped, not when it ends.
struct KeepsUntilDropped<T, F>(T, F);

impl<T: Unpin, F: Future + Unpin> Future for KeepsUntilDropped<T, F> {
    type Output = F::Output;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.1.poll_unpin(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_and_a_panicking_one_give_their_places_back() {
    let service = Limited::new(limit(1), |request: u32| {
        assert!(request != 1, "in the call");
        async move {
            sleep(TAKES).await;
            assert!(request != 2, "in the work");
            Ok::<_, Infallible>(request)
        }
    });
    timeout(TAKES / 2, service.clone().oneshot(0))
        .await
        .unwrap_err();
    for request in [1, 2] {
        let call = tokio::spawn(service.clone().oneshot(request));
        assert!(call.await.unwrap_err().is_panic());
    }
    let next = timeout(LIMIT, service.oneshot(3)).await;
    assert_eq!(next.expect("a place is lost"), Ok(3));
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_told_apart_from_what_never_began() {
    let service = Limited::new(limit(1), async |_: u32| Err::<u32, _>("broken"));
    assert_eq!(
        service.clone().oneshot(0).await,
        Err(LimitedError::Failed("broken"))
    );
    assert_eq!(
        service.clone().oneshot(0).await,
        Err(LimitedError::Failed("broken"))
    );
    service.close();
    assert_eq!(service.oneshot(0).await, Err(LimitedError::Closed));
}

#[tokio::test(start_paused = true)]
async fn closing_refuses_those_who_wait_and_lets_those_go_on_who_have_a_place() {
    let service = Limited::new(limit(2), slow);
    let started = Instant::now();
    let running = tokio::spawn(service.clone().oneshot(1));
    tokio::task::yield_now().await;
    let mut reserved = service.clone().ready_oneshot().await.unwrap();
    let waiting = tokio::spawn(service.clone().oneshot(3));
    sleep(TAKES / 2).await;
    service.close();
    assert_eq!(waiting.await.unwrap(), Err(LimitedError::Closed));
    assert_eq!(started.elapsed(), TAKES / 2);
    assert_eq!(running.await.unwrap(), Ok(1));
    assert_eq!(reserved.call(2).await, Ok(2));
    assert_eq!(reserved.ready().await.err(), Some(LimitedError::Closed));
}

#[tokio::test(start_paused = true)]
async fn an_enormous_limit_is_no_panic() {
    let service = Limited::new(limit(usize::MAX), slow);
    assert_eq!(service.oneshot(1).await, Ok(1));
}

/// Prepares for 20 ms what the mock gets; 13 fails.
async fn prepared(request: u32) -> Result<String, BoxError> {
    sleep(TAKES / 5).await;
    if request == 13 {
        return Err("unlucky".into());
    }
    Ok(format!("prepared {request}"))
}

#[tokio::test(start_paused = true)]
async fn a_request_is_prepared_and_goes_to_the_service_that_was_ready() {
    let (mock, mut handle) = mock::pair::<String, u32>();
    let mut service = Prepare::new(mock, prepared);
    // The mock panics if what is called was not asked first.
    let calls = [1, 2, 3].map(|request| {
        assert!(service.ready().now_or_never().is_some(), "ready {request}");
        tokio::spawn(service.call(request))
    });
    for request in 1..=3 {
        assert_request_eq!(handle, format!("prepared {request}")).send_response(request * 10);
    }
    for (call, expected) in calls.into_iter().zip([10, 20, 30]) {
        assert_eq!(call.await.unwrap().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_when_the_inner_service_is() {
    let (mock, mut handle) = mock::pair::<String, u32>();
    let mut service = Spawn::new(Prepare::new(mock, prepared));
    handle.allow(0);
    assert!(service.poll_ready::<u32>().is_pending());
    handle.allow(1);
    assert!(service.is_woken());
    assert!(service.poll_ready::<u32>().is_ready());
    handle.send_error("gone");
    let Poll::Ready(Err(error)) = service.poll_ready::<u32>() else {
        panic!("the inner service's error is the wrapper's");
    };
    assert_eq!(error.to_string(), "gone");
}

#[tokio::test(start_paused = true)]
async fn requests_are_prepared_beside_one_another() {
    let service = Prepare::new(
        ConcurrencyLimit::new(service_fn(slow), 2),
        async |request| {
            sleep(TAKES / 2).await;
            Ok(request)
        },
    );
    assert_eq!(times(service, 5).await, [150, 150, 300, 300, 450]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_preparation_calls_nothing_and_gives_the_place_back() {
    let (mock, mut handle) = mock::pair::<String, u32>();
    let mut service = Prepare::new(ConcurrencyLimit::new(mock, 1), prepared);
    let mut failed = Box::pin(service.ready().await.unwrap().call(13));
    assert_eq!(failed.as_mut().await.unwrap_err().to_string(), "unlucky");
    assert!(handle.poll_request().is_pending());
    let next = service.ready().now_or_never();
    assert!(next.is_some(), "the future that has failed keeps the place");
    assert!(failed.now_or_never().is_none(), "and no panic");
}

#[tokio::test(start_paused = true)]
async fn the_inner_service_is_let_go_as_soon_as_it_is_called() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let inner = service_fn(move |request| {
        let _ = &held;
        slow(request)
    });
    let mut service = Prepare::new(inner, |request| ready(Ok(request)));
    let mut call = pin!(service.ready().await.unwrap().call(1));
    assert_eq!(Arc::strong_count(&alive), 3);
    assert!(call.as_mut().now_or_never().is_none());
    assert_eq!(Arc::strong_count(&alive), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_gives_its_place_back() {
    let points = every_await_point(
        LIMIT,
        async || {
            let limited = Limited::new(limit(1), slow);
            let service = Prepare::new(limited, async |request| {
                sleep(TAKES).await;
                Ok(request)
            });
            // Something to wait for, so that the place is awaited as well.
            let running = tokio::spawn(service.clone().oneshot(0));
            tokio::task::yield_now().await;
            (service, running)
        },
        async |(service, _)| service.clone().oneshot(1).await,
        async |(service, running), outcome| {
            if let Outcome::Completed(result) = outcome {
                assert_eq!(result, Ok(1));
            }
            assert_eq!(running.await.unwrap(), Ok(0));
            assert_eq!(service.oneshot(2).await, Ok(2));
        },
    )
    .await;
    // The place, the preparation, the work; the budget suspends the last two once more.
    assert_eq!(points.unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn take_ready_takes_the_readiness_and_leaves_none() {
    let mut service = Limited::new(limit(2), slow);
    service.ready().await.unwrap();
    let mut ready = take_ready(&mut service);
    assert_eq!(service.call(1).await, Err(LimitedError::NotReady));
    assert_eq!(ready.call(2).await, Ok(2));
}

/// How a wrapper goes wrong: the clone that is called is not the one that was ready.
#[derive(Clone)]
struct Naive<S> {
    inner: S,
    waits: bool,
}

impl<S> Service<u32> for Naive<S>
where
    S: Service<u32> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: u32) -> Self::Future {
        let (mut inner, waits) = (self.inner.clone(), self.waits);
        Box::pin(async move {
            if waits {
                inner.ready().await?;
            }
            inner.call(request).await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn harm_calling_a_clone_panics_in_towers_limit_buffer_and_mock() {
    async fn call<S>(mut inner: S) -> String
    where
        S: Service<u32, Response = u32> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: std::fmt::Debug + Send,
    {
        inner.ready().await.unwrap();
        let mut service = Naive {
            inner,
            waits: false,
        };
        let call = service.ready().await.unwrap().call(1);
        std::mem::forget(service); // the mock's lock is poisoned, and its drop panics
        let panic = tokio::spawn(call).await.unwrap_err().into_panic();
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap()
            .to_owned()
    }
    let (mock, handle): (Mock<u32, u32>, _) = mock::pair();
    std::mem::forget(handle);
    let messages = [
        call(mock).await,
        call(ConcurrencyLimit::new(service_fn(slow), 1)).await,
        call(tower::buffer::Buffer::new(service_fn(slow), 1)).await,
    ];
    assert_eq!(
        messages,
        [
            "service not ready; poll_ready must be called first",
            "max requests in-flight; poll_ready must be called first",
            "`send_item` called without first calling `poll_reserve`",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn harm_a_clone_that_waits_for_its_own_place_waits_for_ever() {
    let inner = ConcurrencyLimit::new(service_fn(slow), 1);
    let mut service = Naive { inner, waits: true };
    let call = service.ready().await.unwrap().call(1);
    timeout(LIMIT, call)
        .await
        .expect_err("the only place is that of the service that was ready");

    let inner = ConcurrencyLimit::new(service_fn(slow), 1);
    let mut service = Prepare::new(inner, async |request| Ok(request));
    let call = service.ready().await.unwrap().call(1);
    assert_eq!(timeout(LIMIT, call).await.unwrap(), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn harm_a_service_that_is_ready_and_not_called_keeps_the_others_out() {
    for drops in [false, true] {
        let service = Limited::new(limit(1), slow);
        let mut idle = service.clone();
        idle.ready().await.unwrap();
        if drops {
            drop(idle);
            assert_eq!(timeout(LIMIT, service.oneshot(1)).await.unwrap(), Ok(1));
        } else {
            timeout(LIMIT, service.oneshot(1)).await.unwrap_err();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn harm_a_slow_preparation_holds_a_place_for_that_time() {
    let prepare = async |request| {
        sleep(9 * TAKES).await;
        Ok(request)
    };
    let service = Prepare::new(Limited::new(limit(1), slow), prepare);
    assert_eq!(times(service, 2).await, [1000, 2000]);
    // In front of the limited service instead of around it, with a place only for the work.
    let limited = Limited::new(limit(1), slow);
    let service = service_fn(move |request| {
        let limited = limited.clone();
        async move { limited.oneshot(prepare(request).await?).await }
    });
    assert_eq!(times(service, 2).await, [1000, 1100]);
}

#[tokio::test(start_paused = true)]
async fn harm_an_error_of_poll_ready_closes_a_buffer_for_good() {
    let (mock, mut handle) = mock::pair::<u32, u32>();
    let buffer = tower::buffer::Buffer::new(mock, 1);
    handle.send_error("a hiccup");
    for request in 1..=3 {
        let error = buffer.clone().oneshot(request).await.unwrap_err();
        assert_eq!(error.to_string(), "buffered service failed: a hiccup");
    }
    // An error of the call is the call's alone.
    let failing = service_fn(|request: u32| ready(if request == 1 { Err("once") } else { Ok(()) }));
    let buffer = tower::buffer::Buffer::new(failing, 1);
    buffer.clone().oneshot(1).await.unwrap_err();
    buffer.clone().oneshot(2).await.unwrap();
}
