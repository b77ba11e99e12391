//! cargo run --example timeout_layer
//!
//! Four callers of a service that takes one request at a time, 80 ms each, with 100 ms for a request.
//! First tower's limit, which does not count the wait for a place; then the one that does. The clock
//! is virtual.

use std::time::Duration;

use middleware::timeout_layer::{TimeLimitLayer, is_elapsed};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

const LIMIT: Duration = Duration::from_millis(100);

async fn answer(caller: u32) -> Result<u32, BoxError> {
    sleep(Duration::from_millis(80)).await;
    Ok(caller)
}

async fn four_callers<S>(service: S)
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 1..=4 {
        let service = service.clone();
        callers.spawn(async move { (caller, service.oneshot(caller).await) });
    }
    while let Some(Ok((caller, result))) = callers.join_next().await {
        let result = match result {
            Ok(_) => "answered",
            Err(error) if is_elapsed(error.as_ref()) => "out of time",
            Err(_) => "failed",
        };
        let elapsed = started.elapsed().as_millis();
        println!("{elapsed:>4} ms  caller {caller}: {result}");
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    println!("TimeoutLayer:");
    let one_at_a_time = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1));
    let service = one_at_a_time.clone().service(service_fn(answer));
    four_callers(
        ServiceBuilder::new()
            .layer(TimeoutLayer::new(LIMIT))
            .service(service),
    )
    .await;

    println!("TimeLimitLayer:");
    let service = one_at_a_time.service(service_fn(answer));
    four_callers(
        ServiceBuilder::new()
            .layer(TimeLimitLayer::new(LIMIT))
            .service(service),
    )
    .await;
}
