//! cargo bench -p middleware --bench stack
//!
//! What a call costs behind the layers of `stack`, put on one at a time from the inside out: the
//! table of the section page. The service adds one and waits for nothing, and no limit is ever
//! reached. One caller awaits each call before the next; 64 callers do so beside each other, and the
//! figure is the time for all, divided by their calls. Without a buffer there is one caller only: the
//! rate limit cannot be cloned.
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
use tokio::task::{JoinSet, unconstrained};
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
const CALLERS: u32 = 64;
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
        // Or load shed, which asks once, takes a budget that is spent for a queue that is full.
        let ready = unconstrained(service.ready()).await.map_err(Into::into)?;
        let response = ready.call(request.into()).await.map_err(Into::into)?;
        black_box(response);
    }
    Ok(started.elapsed().as_secs_f64() * 1e9 / f64::from(calls))
}

/// Nanoseconds a call: one caller, and many.
type Sample = (f64, Option<f64>);

async fn alone<S>(service: S, calls: u32) -> Result<Sample, BoxError>
where
    S: Service<u64, Response = u64>,
    S::Error: Into<BoxError>,
{
    Ok((measure(service, calls).await?, None))
}

async fn shared<S>(service: S, calls: u32) -> Result<Sample, BoxError>
where
    S: Service<u64, Response = u64, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError> + Send,
{
    let one = measure(service.clone(), calls).await?;
    let each = calls.div_ceil(CALLERS);
    let mut callers = JoinSet::new();
    let started = Instant::now();
    for _ in 0..CALLERS {
        callers.spawn(measure(service.clone(), each));
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    let many = started.elapsed().as_secs_f64() * 1e9 / f64::from(each * CALLERS);
    Ok((one, Some(many)))
}

async fn round(calls: u32) -> Result<Vec<(&'static str, Sample)>, BoxError> {
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
        ("the bare service", alone(service, calls).await?),
        (
            "+ limit of a try",
            alone(tries.service(service), calls).await?,
        ),
        ("+ rate limit", alone(rate.service(service), calls).await?),
        (
            "+ concurrency limit",
            alone(places.service(service), calls).await?,
        ),
        ("+ buffer", shared(buffer.service(service), calls).await?),
        ("+ retry", shared(retry.service(service), calls).await?),
        ("+ time limit", shared(limit.service(service), calls).await?),
        ("+ load shed", shared(shed.service(service), calls).await?),
        (
            "`stack`: + errors told apart, a clone a call",
            shared(stack(SETTINGS, Never, service), calls).await?,
        ),
    ])
}

fn fastest(
    runtime: &Runtime,
    rounds: usize,
    calls: u32,
) -> Result<Vec<(&'static str, Sample)>, BoxError> {
    let mut fastest: Vec<(&str, Sample)> = Vec::new();
    for _ in 0..rounds {
        // In a task, as in a program: `block_on` goes to sleep between two polls of its own future.
        let round = runtime.block_on(async { tokio::spawn(round(calls)).await })??;
        if fastest.is_empty() {
            fastest.clone_from(&round);
        }
        for ((_, fastest), (_, sample)) in fastest.iter_mut().zip(round) {
            fastest.0 = fastest.0.min(sample.0);
            fastest.1 = fastest.1.zip(sample.1).map(|(a, b)| a.min(b));
        }
    }
    Ok(fastest)
}

fn main() -> Result<(), BoxError> {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (rounds, calls) = if is_test { (1, 10) } else { (20, 20_000) };
    let one = Builder::new_current_thread().enable_time().build()?;
    let two = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()?;
    println!(
        "| Nanoseconds a call | one thread: 1 caller | {CALLERS} | two threads: 1 | {CALLERS} |"
    );
    println!("| --- | ---: | ---: | ---: | ---: |");
    let many = |many: Option<f64>| many.map_or(String::new(), |many| format!("{many:.0}"));
    let rows = fastest(&one, rounds, calls)?;
    for ((name, one), (_, two)) in rows.into_iter().zip(fastest(&two, rounds, calls)?) {
        let (one_many, two_many) = (many(one.1), many(two.1));
        println!(
            "| {name} | {:.0} | {one_many} | {:.0} | {two_many} |",
            one.0, two.0
        );
    }
    Ok(())
}
