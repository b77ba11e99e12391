//! cargo bench -p streams --bench concurrent_map_memory
//!
//! The peak of the memory that a run holds, `max alloc`, as the items grow from 100,000 to 1,000,000:
//! 64 at once, each a yield and a sum. The times mean little here: the allocator counts.

use std::num::NonZeroUsize;

use divan::{AllocProfiler, Bencher, black_box};
use futures_util::{StreamExt, stream};
use streams::concurrent_map::{Order, concurrent_map};
use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

fn main() {
    divan::main();
}

/// As a test, too few to mean anything.
fn items() -> [u64; 2] {
    let trial = std::env::args().any(|argument| argument == "--test");
    [100_000, 1_000_000].map(|items| if trial { items / 1_000 } else { items })
}

fn peak(bencher: Bencher<'_, '_>, order: Order, items: u64) {
    let Ok(runtime) = Builder::new_current_thread().build() else {
        eprintln!("no runtime");
        std::process::exit(1);
    };
    let work = async |number: u64| {
        tokio::task::yield_now().await;
        number
    };
    bencher.bench_local(|| {
        runtime.block_on(async {
            let mut results = concurrent_map(LIMIT, order, stream::iter(0..items), work);
            while let Some(result) = results.next().await {
                results.during(async { black_box(result).ok() }).await;
            }
        });
    });
}

#[divan::bench(args = items(), sample_count = 3, sample_size = 1)]
fn by_ends(bencher: Bencher<'_, '_>, items: u64) {
    peak(bencher, Order::Ends, items);
}

#[divan::bench(args = items(), sample_count = 3, sample_size = 1)]
fn by_inputs(bencher: Bencher<'_, '_>, items: u64) {
    peak(bencher, Order::Inputs, items);
}
