//! cargo run --example rate_limit_layer
//!
//! Ten requests a second. tower's layer lets twenty through around the border of two of its windows;
//! the short windows keep them at a distance, and two clones share the rate. The clock is virtual.

use std::convert::Infallible;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use middleware::rate_limit_layer::{Rate, rate_limited};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tower::limit::RateLimit;
use tower::{BoxError, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), BoxError> {
    let started = Instant::now();
    let sent = move |()| async move { Ok::<_, Infallible>(started.elapsed().as_millis()) };

    let mut service = RateLimit::new(service_fn(sent), tower::limit::rate::Rate::new(10, SECOND));
    service.ready().await?.call(()).await?; // begins a window
    sleep_until(started + SECOND - Duration::from_millis(1)).await;
    let mut times = Vec::new();
    for _ in 0..19 {
        times.push(service.ready().await?.call(()).await?);
    }
    println!("RateLimitLayer: {times:?}");

    let ten = NonZeroU32::MIN.saturating_add(9);
    let waiting = NonZeroUsize::MIN.saturating_add(99);
    let service = rate_limited(service_fn(sent), Rate::new(ten, SECOND), waiting);
    let mut calls = JoinSet::new();
    for client in ["A", "B"] {
        let client_service = service.clone();
        for _ in 0..3 {
            let call = client_service.clone().oneshot(());
            calls.spawn(async move { (client, call.await) });
        }
    }
    while let Some(Ok((client, sent))) = calls.join_next().await {
        println!("client {client} sent at {} ms", sent?);
    }
    Ok(())
}
