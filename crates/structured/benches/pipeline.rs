//! cargo bench -p structured --bench pipeline
//!
//! The pipeline against bare channels and tasks of the same shape: a source, three stages, a consumer,
//! 64 places between each two. In the shared form the second stage has four tasks that share its
//! input. The bare form stops nothing at a failure and tells of none.
//!
//! First a table of items per second, for which all rows take turns; a figure is the median of the
//! rounds. Then the memory of the whole: its `max alloc` is the same for 100,000 and 1,000,000 items.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;

use divan::{AllocProfiler, Bencher, black_box};
use futures_util::stream;
use structured::pipeline::Pipeline;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);
const WORKERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);

fn main() {
    let trial = std::env::args().any(|argument| argument == "--test");
    let (rounds, items) = if trial { (1, 100) } else { (31, 20_000) };
    println!("| Items per second, in thousands | 1 thread | 2 threads |");
    println!("| --- | ---: | ---: |");
    let runtimes = [runtime(1), runtime(2)];
    let mut samples = vec![[const { Vec::new() }; 2]; ROWS.len()];
    for _ in 0..rounds {
        for ((_, form, workers), samples) in ROWS.iter().zip(&mut samples) {
            for (runtime, samples) in runtimes.iter().zip(samples) {
                let started = Instant::now();
                black_box(match form {
                    Form::Bare => runtime.block_on(bare(items, *workers)),
                    Form::Recipe => runtime.block_on(recipe(items, *workers)),
                });
                let seconds = started.elapsed().as_secs_f64();
                samples.push(items as f64 / seconds / 1_000.0);
            }
        }
    }
    for ((name, _, _), samples) in ROWS.iter().zip(samples) {
        let [one, two] = samples.map(median);
        println!("| {name} | {one:.0} | {two:.0} |");
    }
    divan::main();
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

enum Form {
    Bare,
    Recipe,
}

const ROWS: [(&str, Form, Option<NonZeroUsize>); 4] = [
    ("bare channels", Form::Bare, None),
    ("`pipeline`", Form::Recipe, None),
    ("bare channels, shared", Form::Bare, Some(WORKERS)),
    ("`pipeline`, shared", Form::Recipe, Some(WORKERS)),
];

fn runtime(threads: usize) -> Runtime {
    let built = match threads {
        1 => Builder::new_current_thread().build(),
        _ => Builder::new_multi_thread().worker_threads(threads).build(),
    };
    match built {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            std::process::exit(1)
        }
    }
}

async fn step(item: u64) -> Result<u64, Infallible> {
    Ok(black_box(item + 1))
}

async fn recipe(items: u64, workers: Option<NonZeroUsize>) -> u64 {
    let source = stream::iter((0..items).map(Ok));
    let pipeline = Pipeline::new("source", CAPACITY, source).stage("first", step);
    let pipeline = match workers {
        None => pipeline.stage("second", step),
        Some(workers) => pipeline.concurrent_stage("second", workers, step),
    };
    let mut pipeline = pipeline.stage("third", step);
    let mut sum = 0;
    while let Ok(Some(item)) = pipeline.next().await {
        sum += item;
    }
    sum
}

fn bare_stage(mut input: mpsc::Receiver<u64>) -> mpsc::Receiver<u64> {
    let (sender, output) = mpsc::channel(CAPACITY.get());
    tokio::spawn(async move {
        while let Some(item) = input.recv().await {
            let Ok(item) = step(item).await;
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    output
}

fn bare_shared_stage(input: mpsc::Receiver<u64>, workers: NonZeroUsize) -> mpsc::Receiver<u64> {
    let (sender, output) = mpsc::channel(CAPACITY.get());
    let input = Arc::new(Mutex::new(input));
    for _ in 0..workers.get() {
        let (input, sender) = (Arc::clone(&input), sender.clone());
        tokio::spawn(async move {
            loop {
                let next = input.lock().await.recv().await;
                let Some(item) = next else { return };
                let Ok(item) = step(item).await;
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        });
    }
    output
}

async fn bare(items: u64, workers: Option<NonZeroUsize>) -> u64 {
    let (sender, output) = mpsc::channel(CAPACITY.get());
    tokio::spawn(async move {
        for item in 0..items {
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    let first = bare_stage(output);
    let second = match workers {
        None => bare_stage(first),
        Some(workers) => bare_shared_stage(first, workers),
    };
    let mut third = bare_stage(second);
    let mut sum = 0;
    while let Some(item) = third.recv().await {
        sum += item;
    }
    sum
}

/// As a test, too few to mean anything.
fn items() -> [u64; 2] {
    let trial = std::env::args().any(|argument| argument == "--test");
    [100_000, 1_000_000].map(|items| if trial { items / 1_000 } else { items })
}

#[divan::bench(args = items(), sample_size = 1, sample_count = 1)]
fn memory(bencher: Bencher<'_, '_>, items: u64) {
    let runtime = runtime(1);
    bencher.bench_local(|| runtime.block_on(recipe(items, Some(WORKERS))));
}
