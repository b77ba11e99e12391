//! cargo run --example swallowed_panic
//!
//! Ten records are saved, each in a task. One has no room, and at one the program has a mistake.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use antipatterns::swallowed_panic::save_all;
use errors::task_errors::join;
use tokio::task::yield_now;

async fn save(record: u32, saved: Arc<AtomicUsize>) -> Result<(), &'static str> {
    yield_now().await;
    assert!(record != 7, "no such column");
    if record == 3 {
        return Err("the disk is full");
    }
    saved.fetch_add(1, Relaxed);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the error of the task is to tell of it
    let saved = Arc::new(AtomicUsize::new(0));
    let saves = || (0..10).map(|record| save(record, Arc::clone(&saved)));

    println!("let _ = task.await:");
    save_all(saves()).await;
    println!("  done; saved: {}", saved.swap(0, Relaxed));

    println!("task_errors:");
    let tasks: Vec<_> = saves().map(tokio::spawn).collect();
    for (record, task) in tasks.into_iter().enumerate() {
        if let Err(error) = join(task).await {
            println!("  record {record}: {error}");
        }
    }
    println!("  done; saved: {}", saved.load(Relaxed));
}
