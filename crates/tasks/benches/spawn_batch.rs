//! `spawn_batch` against a bare `JoinSet` that does the same by hand: at most 64 tasks alive, results
//! in the order of the inputs. The bare form loses them all to a single panic.
//!
//! Each row runs 10,000 inputs, each a yield and a sum; compare the medians.

use std::num::NonZeroUsize;

use divan::Bencher;
use tasks::spawn_batch::spawn_batch;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, yield_now};

const INPUTS: u64 = 10_000;
const LIMIT: usize = 64;

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

async fn work(number: u64) -> u64 {
    yield_now().await;
    number + 1
}

#[divan::bench(args = [Flavor::CurrentThread, Flavor::MultiThread])]
fn bare_join_set(bencher: Bencher<'_, '_>, flavor: &Flavor) {
    let runtime = flavor.runtime();
    bencher.bench_local(|| {
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            let mut results: Vec<Option<u64>> = Vec::new();
            let store = |results: &mut Vec<Option<u64>>, ended| {
                if let Some(Ok((index, result))) = ended
                    && let Some(place) = results.get_mut(index)
                {
                    *place = Some(result);
                }
            };
            for (index, input) in (0..INPUTS).enumerate() {
                results.push(None);
                tasks.spawn(async move { (index, work(input).await) });
                while tasks.len() >= LIMIT {
                    store(&mut results, tasks.join_next().await);
                }
            }
            while !tasks.is_empty() {
                store(&mut results, tasks.join_next().await);
            }
            results.into_iter().flatten().collect::<Vec<u64>>()
        })
    });
}

#[divan::bench(args = [Flavor::CurrentThread, Flavor::MultiThread])]
fn recipe(bencher: Bencher<'_, '_>, flavor: &Flavor) {
    let runtime = flavor.runtime();
    let limit = NonZeroUsize::MIN.saturating_add(LIMIT - 1);
    bencher.bench_local(|| {
        runtime.block_on(async {
            let results = spawn_batch(limit, 0..INPUTS, work).await;
            results.into_iter().flatten().collect::<Vec<u64>>()
        })
    });
}
