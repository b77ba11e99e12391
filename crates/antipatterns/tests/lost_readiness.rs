//! What becomes of a request that goes to a clone which was never ready.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use antipatterns::lost_readiness::Authorized;
use middleware::service::Prepare;
use tokio::time::timeout;
use tower::buffer::Buffer;
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::{BoxError, Service, ServiceExt, service_fn};

async fn double(number: u32) -> Result<u32, Infallible> {
    Ok(2 * number)
}

/// How a request to an idle service ends that panics.
async fn panic_of<S>(inner: S) -> String
where
    S: Service<u32, Response = u32, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError> + Send,
{
    let call = Authorized::new(inner, || ready(())).oneshot(1);
    let called = tokio::spawn(async { call.await.map_err(Into::into) });
    let panic = called.await.unwrap_err().into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    text.unwrap_or_else(|| (*panic.downcast_ref::<&str>().unwrap()).to_owned())
}

#[tokio::test]
async fn harm_over_a_limit_or_a_buffer_the_first_request_panics() {
    assert_eq!(
        panic_of(ConcurrencyLimit::new(service_fn(double), 10)).await,
        "max requests in-flight; poll_ready must be called first"
    );
    assert_eq!(
        panic_of(Buffer::new(service_fn(double), 10)).await,
        "`send_item` called without first calling `poll_reserve`"
    );
}

#[tokio::test]
async fn harm_over_load_shedding_an_idle_service_refuses_each_request() {
    let inner = LoadShed::new(ConcurrencyLimit::new(service_fn(double), 10));
    let mut service = Authorized::new(inner, || ready(()));
    for _ in 0..10 {
        let error = service.ready().await.unwrap().call(1).await.unwrap_err();
        assert_eq!(error.to_string(), "service overloaded");
    }
}

#[tokio::test(start_paused = true)]
async fn harm_the_place_that_was_reserved_is_kept_from_all_others() {
    let inner = ConcurrencyLimit::new(service_fn(double), 1);
    let mut service = Authorized::new(inner.clone(), || ready(()));
    drop(service.ready().await.unwrap().call(1)); // if it is awaited, it panics
    let other = inner.oneshot(1);
    timeout(Duration::from_secs(3600), other).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn mended_the_one_that_was_ready_is_called() {
    let prepare = async |number| {
        ready(()).await;
        Ok(number)
    };
    let limit = ConcurrencyLimit::new(service_fn(double), 1);
    let mut limited = Prepare::new(limit.clone(), prepare);
    assert_eq!(limited.ready().await.unwrap().call(1).await, Ok(2));
    assert_eq!(limit.oneshot(1).await, Ok(2), "the place is free again");

    let shed = LoadShed::new(ConcurrencyLimit::new(service_fn(double), 1));
    let mut shed = Prepare::new(shed, async |number| Ok::<_, BoxError>(number));
    let buffer = Buffer::new(service_fn(double), 1);
    let mut buffered = Prepare::new(buffer, async |number| Ok::<_, BoxError>(number));
    for _ in 0..10 {
        assert_eq!(shed.ready().await.unwrap().call(1).await.unwrap(), 2);
        assert_eq!(buffered.ready().await.unwrap().call(1).await.unwrap(), 2);
    }
}
