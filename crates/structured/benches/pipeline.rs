//! cargo bench -p structured --bench pipeline
//!
//! The pipeline against bare channels and tasks of the same shape: a source, three stages, a consumer,
//! 64 places between each two. The bare form stops nothing at a failure and tells of none. Its shared
//! form has, in the second stage, four tasks that share a receiver.
//!
//! `max alloc` is the memory of the whole at its peak. It is the same for 100,000 and for 1,000,000
//! items; compare the items per second by their medians, within one run.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use futures_util::stream;
use structured::pipeline::Pipeline;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, mpsc};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const ITEMS: u64 = 20_000;
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);
const WORKERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);

fn main() {
    divan::main();
}

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

#[divan::bench_group(sample_size = 1, sample_count = 30)]
mod throughput {
    use super::*;

    fn run<F: Future<Output = u64>>(
        bencher: Bencher<'_, '_>,
        threads: usize,
        of: impl Fn(u64, Option<NonZeroUsize>) -> F,
        workers: Option<NonZeroUsize>,
    ) {
        let runtime = runtime(threads);
        let bencher = bencher.counter(ItemsCount::new(ITEMS));
        bencher.bench_local(|| runtime.block_on(of(ITEMS, workers)));
    }

    #[divan::bench(args = [1, 2])]
    fn bare_channels(bencher: Bencher<'_, '_>, threads: usize) {
        run(bencher, threads, bare, None);
    }

    #[divan::bench(args = [1, 2])]
    fn pipeline(bencher: Bencher<'_, '_>, threads: usize) {
        run(bencher, threads, recipe, None);
    }

    #[divan::bench(args = [1, 2])]
    fn shared_bare_channels(bencher: Bencher<'_, '_>, threads: usize) {
        run(bencher, threads, bare, Some(WORKERS));
    }

    #[divan::bench(args = [1, 2])]
    fn shared_pipeline(bencher: Bencher<'_, '_>, threads: usize) {
        run(bencher, threads, recipe, Some(WORKERS));
    }
}

#[divan::bench(args = [100_000, 1_000_000], sample_size = 1, sample_count = 3)]
fn memory(bencher: Bencher<'_, '_>, items: u64) {
    let runtime = runtime(1);
    bencher.bench_local(|| runtime.block_on(recipe(items, Some(WORKERS))));
}
