//! cargo bench -p middleware --bench stack
//!
//! What a call costs behind the layers of `stack`, put on one at a time from the inside out: the
//! table of the section page. The service adds one and waits for nothing; each call is awaited before
//! the next, so the queue is never longer than one, and no limit is ever reached.
//!
//! All rows take turns within a round. A figure is the fastest of the rounds, which a busy machine
//! changes least, for a runtime of one thread and for one of two.

use std::future::{Ready, ready};
use std::hint::black_box;
use std::io;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use middleware::stack::{Settings, stack};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use tower::retry::Policy;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

const SETTINGS: Settings = Settings {
    time_limit: Duration::from_secs(60),
    try_limit: Duration::from_secs(60),
    queue: NonZeroUsize::MAX,
    concurrency: NonZeroUsize::MAX,
    per_second: NonZeroU64::MAX,
};

const ENOUGH: usize = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// A policy that looks at each result, and keeps each request for another try.
#[derive(Debug, Clone)]
struct Never;

impl<T, E> Policy<u64, T, E> for Never {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<T, E>) -> Option<Ready<()>> {
        black_box(result.is_err()).then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

async fn add_one(request: u64) -> Result<u64, io::Error> {
    Ok(black_box(request) + 1)
}

/// Nanoseconds a call.
async fn measure<S>(mut service: S, calls: u32) -> Result<f64, BoxError>
where
    S: Service<u64, Response = u64>,
    S::Error: Into<BoxError>,
{
    let started = Instant::now();
    for request in 0..calls {
        let ready = service.ready().await.map_err(Into::into)?;
        let response = ready.call(request.into()).await.map_err(Into::into)?;
        black_box(response);
    }
    Ok(started.elapsed().as_secs_f64() * 1e9 / f64::from(calls))
}

async fn round(calls: u32) -> Result<Vec<(&'static str, f64)>, BoxError> {
    let service = service_fn(add_one);
    let tries = ServiceBuilder::new().timeout(SECOND);
    let rate = ServiceBuilder::new()
        .rate_limit(u64::MAX, SECOND)
        .layer(tries.clone());
    let places = ServiceBuilder::new()
        .concurrency_limit(ENOUGH)
        .layer(rate.clone());
    let buffer = ServiceBuilder::new().buffer(ENOUGH).layer(places.clone());
    let retry = ServiceBuilder::new().retry(Never).layer(buffer.clone());
    let limit = ServiceBuilder::new().timeout(SECOND).layer(retry.clone());
    let shed = ServiceBuilder::new().load_shed().layer(limit.clone());
    Ok(vec![
        ("the bare service", measure(service, calls).await?),
        (
            "+ limit of a try",
            measure(tries.service(service), calls).await?,
        ),
        ("+ rate limit", measure(rate.service(service), calls).await?),
        (
            "+ concurrency limit",
            measure(places.service(service), calls).await?,
        ),
        ("+ buffer", measure(buffer.service(service), calls).await?),
        ("+ retry", measure(retry.service(service), calls).await?),
        (
            "+ time limit",
            measure(limit.service(service), calls).await?,
        ),
        ("+ load shed", measure(shed.service(service), calls).await?),
        (
            "`stack`: + errors told apart, a clone a call",
            measure(stack(SETTINGS, Never, service), calls).await?,
        ),
    ])
}

fn fastest(
    runtime: &Runtime,
    rounds: usize,
    calls: u32,
) -> Result<Vec<(&'static str, f64)>, BoxError> {
    let mut samples: Vec<(&str, Vec<f64>)> = Vec::new();
    for _ in 0..rounds {
        // In a task, as in a program: `block_on` goes to sleep between two polls of its own future.
        let round = runtime.block_on(async { tokio::spawn(round(calls)).await })??;
        samples.resize_with(round.len(), Default::default);
        for ((name, figures), (row, figure)) in samples.iter_mut().zip(round) {
            *name = row;
            figures.push(figure);
        }
    }
    let fastest =
        |(name, figures): (_, Vec<f64>)| (name, figures.into_iter().fold(f64::INFINITY, f64::min));
    Ok(samples.into_iter().map(fastest).collect())
}

fn main() -> Result<(), BoxError> {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (rounds, calls) = if is_test { (1, 10) } else { (20, 20_000) };
    let one = Builder::new_current_thread().enable_time().build()?;
    let two = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()?;
    println!("| Nanoseconds a call | one thread | two threads |");
    println!("| --- | ---: | ---: |");
    let rows = fastest(&one, rounds, calls)?;
    for ((name, one), (_, two)) in rows.into_iter().zip(fastest(&two, rounds, calls)?) {
        println!("| {name} | {one:.0} | {two:.0} |");
    }
    Ok(())
}
