//! cargo run --example lost_readiness
//!
//! A middleware that awaits something before each request, over a limit of ten at once, a buffer and
//! load shedding: it calls a clone of what was ready, and then the one that was ready itself.

use std::convert::Infallible;
use std::future::ready;

use antipatterns::lost_readiness::Authorized;
use errors::task_errors::join;
use middleware::service::Prepare;
use tower::buffer::Buffer;
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::{BoxError, Service, ServiceExt, service_fn};

async fn double(number: u32) -> Result<u32, Infallible> {
    Ok(2 * number)
}

/// Calls an idle service, in a task, as it may panic.
async fn call<S>(name: &str, service: S)
where
    S: Service<u32, Response = u32, Future: Send> + Send + 'static,
    S::Error: Into<BoxError>,
{
    let call = service.oneshot(21);
    let call = tokio::spawn(async { call.await.map_err(|error| error.into().to_string()) });
    match join(call).await {
        Ok(answer) => println!("  {name}: {answer}"),
        Err(error) => println!("  {name}: {error}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the task's error is to tell of it
    let limit = || ConcurrencyLimit::new(service_fn(double), 10);
    let buffer = || Buffer::new(service_fn(double), 10);
    println!("a clone is called:");
    call("limit", Authorized::new(limit(), || ready(()))).await;
    call("buffer", Authorized::new(buffer(), || ready(()))).await;
    call(
        "load shed",
        Authorized::new(LoadShed::new(limit()), || ready(())),
    )
    .await;

    println!("service:");
    call("limit", Prepare::new(limit(), async |it| Ok(it))).await;
    call("buffer", Prepare::new(buffer(), async |it| Ok(it))).await;
    call(
        "load shed",
        Prepare::new(LoadShed::new(limit()), async |it| Ok(it)),
    )
    .await;
}
