//! What a buffer and the owner of its worker promise, and what ends a buffer for all.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::error::Error;
use std::future::pending;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use middleware::buffer_layer::{BufferWorker, WorkerError, buffered};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};
use tower::buffer::Buffer;
use tower::buffer::error::{Closed, ServiceError};
use tower::{BoxError, Service, ServiceExt, service_fn};
use tower_test::mock::{self, Handle, Mock};

const TAKES: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(3600);

fn places(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

type MockBuffer = Buffer<u32, <Mock<u32, u32> as Service<u32>>::Future>;

/// A service that is not ready until its handle allows it.
fn not_ready(waiting: usize) -> (MockBuffer, BufferWorker, Handle<u32, u32>) {
    let (service, mut handle) = mock::pair();
    handle.allow(0);
    let (buffer, worker) = buffered(service, places(waiting));
    (buffer, worker, handle)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Work,
    Fail,
    Panic,
    PanicInTheFuture,
}

#[derive(Debug, thiserror::Error)]
#[error("failed")]
struct Failed;

/// Not `Clone`; counts its calls, and sees its own end.
struct Single {
    calls: u32,
    _alive: mpsc::Sender<()>,
}

impl Single {
    fn new() -> (Self, mpsc::Receiver<()>) {
        let (alive, ended) = mpsc::channel(1);
        (
            Self {
                calls: 0,
                _alive: alive,
            },
            ended,
        )
    }
}

impl Service<Ask> for Single {
    type Response = u32;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<u32, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        assert!(self.calls != 3, "three were enough");
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Ask) -> Self::Future {
        self.calls += 1;
        assert_ne!(request, Ask::Panic, "call {}", self.calls);
        let number = self.calls;
        Box::pin(async move {
            sleep(TAKES).await;
            assert_ne!(request, Ask::PanicInTheFuture);
            if request == Ask::Fail {
                Err(Failed)
            } else {
                Ok(number)
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn clones_share_one_service_that_cannot_be_cloned() {
    let (buffer, _worker) = buffered(Single::new().0, places(9));
    let clone = buffer.clone();
    let (a, b) = tokio::join!(buffer.oneshot(Ask::Work), clone.oneshot(Ask::Work));
    assert_eq!((a.unwrap(), b.unwrap()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn harm_a_buffer_limits_what_waits_and_not_what_runs() {
    let running = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&running);
    let service = service_fn(move |()| {
        count.fetch_add(1, Ordering::Relaxed);
        pending::<Result<(), BoxError>>()
    });
    let (buffer, _worker) = buffered(service, places(1));
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        calls.spawn(buffer.clone().oneshot(()));
    }
    sleep(TAKES).await;
    assert_eq!(running.load(Ordering::Relaxed), 100);
}

#[tokio::test(start_paused = true)]
async fn it_holds_as_many_as_asked_for_and_the_one_in_the_workers_hand() {
    let (mut buffer, _worker, _handle) = not_ready(3);
    let mut queued = Vec::new();
    for number in 0..4 {
        let service = timeout(TAKES, buffer.ready())
            .await
            .expect("there is a place");
        queued.push(service.unwrap().call(number));
        yield_now().await;
    }
    timeout(LONG, buffer.ready())
        .await
        .map(drop)
        .expect_err("a fifth place");
}

#[tokio::test(start_paused = true)]
async fn harm_a_handle_that_is_ready_and_not_called_keeps_a_place() {
    let (buffer, _worker) = buffered(Single::new().0, places(1));
    let mut kept = buffer.clone();
    kept.ready().await.unwrap();
    let other = timeout(LONG, buffer.clone().oneshot(Ask::Work)).await;
    other.expect_err("the service is idle, and the queue empty");
    drop(kept);
    buffer.oneshot(Ask::Work).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_while_it_waits_never_reaches_the_service() {
    let (buffer, _worker, mut handle) = not_ready(9);
    let given_up = buffer.clone().oneshot(1);
    timeout(TAKES, given_up).await.unwrap_err();
    let second = tokio::spawn(buffer.oneshot(2));
    handle.allow(9);
    let (request, answer) = handle.next_request().await.unwrap();
    answer.send_response(20);
    assert_eq!((request, second.await.unwrap().unwrap()), (2, 20));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_call_or_a_panic_of_its_future_is_that_of_its_caller_alone() {
    let (buffer, mut worker) = buffered(Single::new().0, places(9));
    let panicked = tokio::spawn(buffer.clone().oneshot(Ask::PanicInTheFuture));
    assert!(panicked.await.unwrap_err().is_panic());
    let error = buffer.clone().oneshot(Ask::Fail).await.unwrap_err();
    assert_eq!(error.to_string(), "failed");
    assert_eq!(buffer.oneshot(Ask::Work).await.unwrap(), 3);
    assert_eq!(worker.ended().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn harm_an_error_of_poll_ready_is_that_of_all_who_wait_and_all_who_come() {
    let (buffer, mut worker, mut handle) = not_ready(9);
    let mut waiting = JoinSet::new();
    for number in 0..3 {
        waiting.spawn(buffer.clone().oneshot(number));
    }
    sleep(TAKES).await;
    handle.send_error("connection lost");
    let mut results = waiting.join_all().await;
    handle.allow(9); // it has recovered, and is not asked again
    results.push(buffer.clone().oneshot(3).await);
    assert_eq!(results.len(), 4);
    for result in results {
        let error = result.unwrap_err();
        let error = error.downcast_ref::<ServiceError>().unwrap();
        assert_eq!(error.source().unwrap().to_string(), "connection lost");
    }
    // The worker ended in order, while there is a handle.
    assert_eq!(timeout(LONG, worker.ended()).await, Ok(Ok(())));
    drop(buffer);
}

#[tokio::test(start_paused = true)]
async fn harm_a_panic_in_call_or_poll_ready_ends_it_for_all_and_its_owner_is_told_why() {
    for (requests, message) in [
        ([Ask::Work, Ask::Panic, Ask::Work, Ask::Work], "call 2"),
        ([Ask::Work; 4], "three were enough"),
    ] {
        let (service, mut ended) = Single::new();
        let (buffer, mut worker) = buffered(service, places(9));
        let mut calls = JoinSet::new();
        for request in requests {
            let call = buffer.clone().oneshot(request);
            calls.spawn(call.map(move |result| (request, result)));
        }
        let mut closed = Vec::new();
        for (request, result) in calls.join_all().await {
            if let Err(error) = result {
                assert!(error.is::<Closed>(), "{error}");
                closed.push(request);
            }
        }
        let survived = if message == "call 2" { 1 } else { 3 };
        assert_eq!(
            closed,
            requests[survived..],
            "what was called before went on"
        );
        assert!(buffer.oneshot(Ask::Work).await.unwrap_err().is::<Closed>());
        for _ in 0..2 {
            let Err(WorkerError::Panicked { message: told }) = worker.ended().await else {
                panic!("it is said to have ended well");
            };
            assert!(told.contains(message), "{told}");
        }
        assert_eq!(ended.recv().await, None, "the service is gone");
    }
}

#[tokio::test(start_paused = true)]
async fn when_every_handle_is_dropped_what_is_queued_and_awaited_is_still_done() {
    let (buffer, mut worker, mut handle) = not_ready(9);
    let mut calls = JoinSet::new();
    for number in 0..3 {
        calls.spawn(buffer.clone().oneshot(number));
    }
    drop(buffer);
    timeout(LONG, worker.ended())
        .await
        .expect_err("it waits for the service");
    handle.allow(3);
    for expected in 0..3 {
        let (request, answer) = handle.next_request().await.unwrap();
        assert_eq!(request, expected, "in their order");
        answer.send_response(request);
    }
    assert_eq!(calls.join_all().await.len(), 3);
    assert_eq!(timeout(LONG, worker.ended()).await, Ok(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_owner_drops_the_service_and_the_queue_but_not_what_was_called() {
    let (service, mut ended) = Single::new();
    let (buffer, worker) = buffered(service, places(9));
    let called = tokio::spawn(buffer.clone().oneshot(Ask::Work));
    sleep(TAKES / 2).await;
    let mut queued = buffer.clone();
    let queued = queued.ready().await.unwrap().call(Ask::Work);
    drop(worker); // before it has got to it
    assert!(queued.await.unwrap_err().is::<Closed>());
    assert_eq!(ended.recv().await, None);
    assert_eq!(called.await.unwrap().unwrap(), 1);
    assert!(buffer.oneshot(Ask::Work).await.unwrap_err().is::<Closed>());
}

#[tokio::test(start_paused = true)]
async fn harm_a_worker_that_is_bound_to_an_underscore_is_gone_on_that_line() {
    let (buffer, _) = buffered(Single::new().0, places(9));
    let error = buffer.oneshot(Ask::Work).await.unwrap_err();
    assert!(error.is::<Closed>());
}

#[tokio::test(start_paused = true)]
async fn harm_the_worker_of_a_bare_buffer_lives_on_without_an_owner_or_a_handle() {
    let (service, mut handle) = mock::pair::<(), ()>();
    handle.allow(0);
    let buffer = Buffer::new(service, 9);
    let started = Instant::now();
    // The handle goes with the call; the response future is kept somewhere.
    let kept = tokio::spawn(buffer.oneshot(()));
    sleep(LONG).await;
    assert_eq!(started.elapsed(), LONG);
    handle.allow(1);
    let request = timeout(TAKES, handle.next_request()).await.unwrap();
    assert!(request.is_some(), "the service was there all the time");
    kept.abort();
}

#[tokio::test]
async fn an_enormous_queue_is_no_panic() {
    let (buffer, _worker) = buffered(Single::new().0, NonZeroUsize::MAX);
    drop(buffer);
}

#[test]
fn the_end_of_the_runtime_is_an_end_too() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    let first = runtime();
    let (_buffer, mut worker) = first.block_on(async { buffered(Single::new().0, places(1)) });
    drop(first);
    let ended = runtime().block_on(worker.ended());
    assert_eq!(ended, Err(WorkerError::RuntimeGone));
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_await_ended_changes_nothing() {
    let points = every_await_point(
        LONG,
        async || {
            let (buffer, worker) = buffered(Single::new().0, places(9));
            let last = tokio::spawn(sleep(TAKES).then(move |()| buffer.oneshot(Ask::Work)));
            (worker, last)
        },
        async |(worker, _)| worker.ended().await.unwrap(),
        async |(mut worker, last), _| {
            assert_eq!(last.await.unwrap().unwrap(), 1);
            assert_eq!(worker.ended().await, Ok(()));
        },
    )
    .await;
    assert_eq!(points.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_at_any_await_leaves_the_queue_in_order() {
    let points = every_await_point(
        LONG,
        async || {
            let (buffer, worker, mut handle) = not_ready(1);
            let server = tokio::spawn(async move {
                sleep(TAKES).await;
                handle.allow(9);
                let mut requests = Vec::new();
                while let Some((request, answer)) = handle.next_request().await {
                    answer.send_response(request);
                    requests.push(request);
                }
                requests
            });
            (buffer, worker, server)
        },
        async |(buffer, ..)| buffer.clone().oneshot(1).await.unwrap(),
        async |(buffer, worker, server), outcome| {
            assert_eq!(buffer.oneshot(2).await.unwrap(), 2);
            drop(worker);
            let requests = server.await.unwrap();
            match outcome {
                Outcome::Completed(response) => {
                    assert_eq!((response, requests), (1, vec![1, 2]));
                }
                // Woken from its wait in the queue, it was called.
                Outcome::Dropped(_) => {
                    assert!(requests == [2] || requests == [1, 2], "{requests:?}");
                }
            }
        },
    )
    .await;
    assert_eq!(points.unwrap(), 4);
}
