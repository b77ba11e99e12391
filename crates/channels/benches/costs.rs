//! What one message costs through each of tokio's channels, without contention: the table of the
//! section page. Sender and receiver take turns in one task, so no wake-up is measured.

use divan::Bencher;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

const MESSAGES: u64 = 1_000;

fn main() {
    divan::main();
}

#[expect(
    clippy::expect_used,
    reason = "a benchmark without its runtime has nothing to do"
)]
fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

#[divan::bench]
fn mpsc_1000(bencher: Bencher<'_, '_>) {
    let (sender, mut receiver) = mpsc::channel(1);
    let runtime = runtime();
    bencher.bench_local(|| {
        runtime.block_on(async {
            let mut sum = 0;
            for message in 0..MESSAGES {
                sender.send(message).await.ok();
                sum += receiver.recv().await.unwrap_or_default();
            }
            sum
        })
    });
}

#[divan::bench]
fn oneshot_1000(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    bencher.bench_local(|| {
        runtime.block_on(async {
            let mut sum = 0;
            for message in 0..MESSAGES {
                let (sender, receiver) = oneshot::channel();
                sender.send(message).ok();
                sum += receiver.await.unwrap_or_default();
            }
            sum
        })
    });
}

#[divan::bench(args = [1, 8])]
fn broadcast_1000(bencher: Bencher<'_, '_>, subscribers: usize) {
    let sender = broadcast::Sender::new(1);
    let mut receivers: Vec<_> = (0..subscribers).map(|_| sender.subscribe()).collect();
    let runtime = runtime();
    bencher.bench_local(|| {
        runtime.block_on(async {
            let mut sum = 0;
            for message in 0..MESSAGES {
                sender.send(message).ok();
                for receiver in &mut receivers {
                    sum += receiver.recv().await.unwrap_or_default();
                }
            }
            sum
        })
    });
}

#[divan::bench(args = [1, 8])]
fn watch_1000(bencher: Bencher<'_, '_>, subscribers: usize) {
    let sender = watch::Sender::new(0);
    let mut receivers: Vec<_> = (0..subscribers).map(|_| sender.subscribe()).collect();
    let runtime = runtime();
    bencher.bench_local(|| {
        runtime.block_on(async {
            let mut sum = 0;
            for message in 0..MESSAGES {
                sender.send_replace(message);
                for receiver in &mut receivers {
                    receiver.changed().await.ok();
                    sum += *receiver.borrow_and_update();
                }
            }
            sum
        })
    });
}
