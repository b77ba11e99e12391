//! cargo run --example test_flavors
//!
//! Three test bodies on one thread and on two workers, five times each. The first hides its fault on
//! several threads, the second on a single one. The third is right.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use testing::test_flavors::{Failures, Flavor, on_each_flavor};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Blocks the thread until another task has answered: that task may need the very thread.
async fn blocks() {
    let (answer, answered) = mpsc::sync_channel(1);
    tokio::spawn(async move { answer.send(7) });
    assert_eq!(answered.recv(), Ok(7));
}

/// A task and its spawner count up, each in two steps. The barrier makes the bad moment certain that is
/// rare otherwise: both are between their steps. On one thread there is no such moment to wait for.
async fn loses_an_update() {
    let has_threads = Handle::current().metrics().num_workers() > 1;
    let shared = Arc::new((AtomicU32::new(0), Barrier::new(2)));
    let count_up = move |(count, between): &(AtomicU32, Barrier)| {
        let seen = count.load(Ordering::SeqCst);
        if has_threads {
            between.wait();
        }
        count.store(seen + 1, Ordering::SeqCst);
    };
    let its = Arc::clone(&shared);
    let task = tokio::spawn(async move { count_up(&its) });
    count_up(&shared);
    assert!(task.await.is_ok());
    let count = shared.0.load(Ordering::SeqCst);
    assert!(count == 2, "both counted to {count}");
}

/// Awaits what the first one blocks for.
async fn awaits() {
    let (answer, answered) = oneshot::channel();
    tokio::spawn(async move { answer.send(7) });
    assert_eq!(answered.await, Ok(7));
}

fn show(name: &str, result: Result<(), Failures>) {
    println!("{name}:");
    match result {
        Ok(()) => println!("  passes on both"),
        Err(failures) => println!("  {failures}"),
    }
}

fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the failure tells of the panic; once is enough
    let two = NonZeroUsize::MIN.saturating_add(1);
    let both = [Flavor::CurrentThread, Flavor::MultiThread(two)];
    let five = NonZeroUsize::MIN.saturating_add(4);
    let limit = Duration::from_secs(2);
    show("blocks", on_each_flavor(&both, five, limit, blocks));
    show(
        "loses an update",
        on_each_flavor(&both, five, limit, loses_an_update),
    );
    show("awaits", on_each_flavor(&both, five, limit, awaits));
}
