//! The work queue against a bare loop over mpsc with the same shape: workers that share a receiver,
//! results through a second channel. The bare loop reports no panic and cannot be closed.
//!
//! Each row moves 10,000 jobs through 4 workers; compare the medians.

use std::num::NonZeroUsize;
use std::sync::Arc;

use channels::work_queue::{Limits, work_queue};
use divan::Bencher;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, mpsc};

const JOBS: u64 = 10_000;
const WORKERS: usize = 4;
const CAPACITY: usize = 64;

fn main() {
    divan::main();
}

#[derive(Debug, Clone, Copy)]
enum Flavor {
    CurrentThread,
    MultiThread,
}

impl Flavor {
    #[expect(
        clippy::expect_used,
        reason = "a benchmark without its runtime has nothing to do"
    )]
    fn runtime(self) -> Runtime {
        let runtime = match self {
            Self::CurrentThread => Builder::new_current_thread().build(),
            Self::MultiThread => Builder::new_multi_thread().worker_threads(2).build(),
        };
        runtime.expect("a runtime")
    }
}

/// What each job does: a yield, as the smallest stand-in for waiting, and a sum.
async fn job(number: u64) -> u64 {
    tokio::task::yield_now().await;
    number + 1
}

#[divan::bench(args = [Flavor::CurrentThread, Flavor::MultiThread])]
fn bare_loop(bencher: Bencher<'_, '_>, flavor: &Flavor) {
    let runtime = flavor.runtime();
    bencher.bench_local(|| {
        runtime.block_on(async {
            let (jobs, receiver) = mpsc::channel(CAPACITY);
            let (sender, mut results) = mpsc::channel(CAPACITY);
            let receiver = Arc::new(Mutex::new(receiver));
            for _ in 0..WORKERS {
                let (jobs, results) = (Arc::clone(&receiver), sender.clone());
                tokio::spawn(async move {
                    loop {
                        let next = jobs.lock().await.recv().await;
                        let Some(number) = next else { return };
                        if results.send(job(number).await).await.is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            tokio::spawn(async move {
                for number in 0..JOBS {
                    if jobs.send(number).await.is_err() {
                        return;
                    }
                }
            });
            let mut sum = 0;
            while let Some(result) = results.recv().await {
                sum += result;
            }
            sum
        })
    });
}

#[divan::bench(args = [Flavor::CurrentThread, Flavor::MultiThread])]
fn recipe(bencher: Bencher<'_, '_>, flavor: &Flavor) {
    let runtime = flavor.runtime();
    let at_least_one = |number: usize| NonZeroUsize::MIN.saturating_add(number - 1);
    let limits = Limits {
        workers: at_least_one(WORKERS),
        capacity: at_least_one(CAPACITY),
    };
    bencher.bench_local(|| {
        runtime.block_on(async {
            let (queue, mut outcomes) = work_queue(limits, job);
            tokio::spawn(async move {
                for number in 0..JOBS {
                    if queue.push(number).await.is_err() {
                        return;
                    }
                }
            });
            let mut sum = 0;
            while let Some(outcome) = outcomes.next().await {
                sum += outcome.result.unwrap_or_default();
            }
            sum
        })
    });
}
