//! cargo run --example limit_outside_timeout
//!
//! Ten callers of a service that takes one at a time, 80 ms each, within a limit of 100 ms. What are
//! they told, and when? The clock is virtual.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::Ready;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use antipatterns::limit_outside_timeout::{limit_outside, timeout_outside};
use futures_util::stream::{FuturesOrdered, StreamExt};
use middleware::stack::{Settings, stack};
use tokio::time::{Instant, sleep};
use tower::retry::Policy;
use tower::{Service, ServiceExt, service_fn};

const LIMIT: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct NoRetries;

impl<T, E> Policy<(), T, E> for NoRetries {
    type Future = Ready<()>;

    fn retry(&mut self, (): &mut (), _: &mut Result<T, E>) -> Option<Ready<()>> {
        None
    }

    fn clone_request(&mut self, (): &()) -> Option<()> {
        None
    }
}

async fn ten<S: Service<(), Response = (), Error: Display> + Clone>(name: &str, service: S) {
    let started = Instant::now();
    println!("{name}:");
    let calls = (1..=10).map(|number| {
        let call = service.clone().oneshot(());
        async move { (number, call.await, started.elapsed().as_millis()) }
    });
    let mut calls: FuturesOrdered<_> = calls.collect();
    while let Some((number, called, at)) = calls.next().await {
        if matches!(number, 1 | 2 | 10) {
            let told = called.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
            println!("  caller {number:2}: {told} after {at} ms");
        }
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let work = service_fn(async |()| {
        sleep(Duration::from_millis(80)).await;
        Ok::<_, Infallible>(())
    });
    ten("timeout outside", timeout_outside(work, 1, LIMIT)).await;
    ten("limit outside", limit_outside(work, 1, LIMIT)).await;
    let settings = Settings {
        time_limit: LIMIT,
        try_limit: LIMIT,
        queue: NonZeroUsize::MIN.saturating_add(9),
        concurrency: NonZeroUsize::MIN,
        per_second: NonZeroU64::MIN.saturating_add(999),
    };
    ten("stack", stack(settings, NoRetries, work)).await;
}
