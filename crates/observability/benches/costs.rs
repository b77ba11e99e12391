//! cargo bench -p observability --bench costs
//!
//! What it costs to be seen: the table of the section page, as it stands there.
//!
//! The first rows are the time of one poll of a future that is not done. *None*: the process has no
//! subscriber. *Off*: it has one whose level turns spans and events off. *On*: a registry with a layer
//! that does nothing, so the cost is the span's and not the log's. Tracing remembers for the whole process
//! who wants what, so each is a process of its own, and they take turns; a figure is the median of the
//! rounds. The last is a question of the watchdog and its answer.

use std::error::Error;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use observability::runtime_metrics::{Settings, Snapshot, Watchdog};
use observability::spans::InSpan;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span, error_span, info};
use tracing_subscriber::layer::{Identity, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// A future that is never done, so that it can be polled again and again.
async fn forever() {
    std::future::poll_fn(|_| {
        black_box(());
        Poll::<()>::Pending
    })
    .await;
}

fn poll(future: impl Future, count: u32) -> f64 {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    each(count, || {
        black_box(future.as_mut().poll(&mut context).is_ready());
    })
}

/// Nanoseconds for each of so many.
fn each(count: u32, mut work: impl FnMut()) -> f64 {
    let started = Instant::now();
    for _ in 0..count {
        work();
    }
    started.elapsed().as_nanos() as f64 / f64::from(count)
}

type Row = (&'static str, fn(u32) -> f64);

const ROWS: [Row; 6] = [
    ("a poll, bare", |count| poll(forever(), count)),
    ("a poll in a span", |count| {
        poll(forever().instrument(error_span!("request", id = 1)), count)
    }),
    ("a span with an id, made and closed", |count| {
        each(count, || drop(black_box(error_span!("request", id = 1))))
    }),
    ("`InSpan`: sent and taken", |count| {
        let span = error_span!("request", id = 1);
        span.in_scope(|| {
            each(count, || {
                black_box(InSpan::here(1)).in_scope(black_box);
            })
        })
    }),
    ("`Span::current()`", |count| {
        let span = error_span!("request", id = 1);
        span.in_scope(|| each(count, || drop(black_box(Span::current()))))
    }),
    ("an event that nobody writes", |count| {
        each(count, || info!(number = 1, "event"))
    }),
];

const SUBSCRIBERS: [&str; 3] = ["none", "off", "on"];

/// In a process of its own: prints each row's nanoseconds, with this subscriber.
fn measure(subscriber: &str, count: u32) -> Result<(), Box<dyn Error>> {
    let registry = tracing_subscriber::registry();
    match subscriber {
        "off" => registry.with(LevelFilter::OFF).try_init()?,
        "on" => registry.with(Identity::new()).try_init()?,
        _ => {}
    }
    for (_, row) in ROWS {
        row(count / 10); // the first times cost more
        println!("{}", row(count));
    }
    Ok(())
}

fn ask(subscriber: &str, count: u32) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?);
    let output = child.env(CHILD, format!("{subscriber} {count}")).output()?;
    let lines = String::from_utf8(output.stdout)?;
    Ok(lines.lines().map(str::parse).collect::<Result<_, _>>()?)
}

/// Set in a process that measures: the subscriber, and how often.
const CHILD: &str = "COSTS_OF_OBSERVABILITY";

/// Microseconds of a question, its answer and the snapshots, and of a snapshot alone.
fn watchdog(workers: usize, time: Duration) -> Result<[f64; 2], Box<dyn Error>> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .build()?;
    let settings = Settings {
        period: Duration::ZERO,
        limit: Duration::from_secs(60),
    };
    let watchdog = Watchdog::start("bench", runtime.handle().clone(), settings, |_| ())?;
    let waiting = Builder::new_current_thread().enable_time().build()?;
    let started = Instant::now();
    waiting.block_on(async { sleep(time).await });
    let signs = watchdog.signs_of_life().max(1);
    let question = started.elapsed().as_secs_f64() * 1e6 / signs as f64;
    drop(watchdog);
    let metrics = runtime.metrics();
    let snapshot = each(1000, || drop(black_box(Snapshot::of(&metrics))));
    Ok([question, snapshot / 1e3])
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<(), Box<dyn Error>> {
    let trial = std::env::args().any(|argument| argument == "--test");
    let (rounds, count) = if trial { (1, 100) } else { (15, 100_000) };
    if let Ok(asked) = std::env::var(CHILD) {
        let (subscriber, count) = asked.split_once(' ').ok_or("no count")?;
        return measure(subscriber, count.parse()?);
    }

    let mut samples = vec![[const { Vec::new() }; 3]; ROWS.len()];
    for _ in 0..rounds {
        for (subscriber, number) in SUBSCRIBERS.iter().zip(0..) {
            for (samples, sample) in samples.iter_mut().zip(ask(subscriber, count)?) {
                samples
                    .get_mut::<usize>(number)
                    .ok_or("no such column")?
                    .push(sample);
            }
        }
    }
    println!(
        "| Nanoseconds, with a subscriber: | {} |",
        SUBSCRIBERS.join(" | ")
    );
    println!("| --- | ---: | ---: | ---: |");
    for ((name, _), samples) in ROWS.iter().zip(samples) {
        let [none, off, on] = samples.map(median);
        println!("| {name} | {none:.1} | {off:.1} | {on:.1} |");
    }

    let time = Duration::from_millis(if trial { 5 } else { 300 });
    let mut samples = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        for (samples, sample) in samples.iter_mut().zip(watchdog(2, time)?) {
            samples.push(sample);
        }
    }
    let [question, snapshot] = samples.map(median);
    println!();
    println!("the watchdog's question, answered by an idle runtime: {question:.1} µs");
    println!("a snapshot of two workers: {snapshot:.2} µs");
    Ok(())
}
