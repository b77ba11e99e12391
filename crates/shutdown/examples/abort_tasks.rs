//! cargo run --example abort_tasks
//!
//! Four tasks are stopped together: one had finished, one had panicked, one waits, and one computes
//! without ever awaiting. Each end is told; the last task is waited for with more patience.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use shutdown::abort_tasks::{End, stop_all};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    std::panic::set_hook(Box::new(|_| {})); // the end tells of the panic; once is enough
    let (enough, until_enough) = sync_channel::<()>(0);
    let (begun, has_begun) = sync_channel(0);
    let finished: JoinHandle<&str> = tokio::spawn(async { "an answer" });
    let panicked = tokio::spawn(async { std::panic::resume_unwind(Box::new("no such row")) });
    let waits = tokio::spawn(async {
        sleep(Duration::from_secs(3_600)).await;
        "too late"
    });
    let computes = spawn_blocking(move || {
        begun.send(()).ok();
        until_enough.recv().ok(); // stands for a long computation
        "a result that nobody could stop"
    });
    has_begun.recv()?;
    tokio::task::yield_now().await;

    let names = ["finished", "panicked", "waits", "computes"];
    let tasks = [finished, panicked, waits, computes];
    let ends = stop_all(tasks, Duration::from_millis(50)).await;
    let mut left = Vec::new();
    for (name, end) in names.into_iter().zip(ends) {
        match end {
            Ok(End::Finished(value)) => println!("{name}: it had ended with {value:?}"),
            Ok(End::Cancelled) => println!("{name}: it was stopped"),
            Ok(End::Panicked(panic)) => println!("{name}: {panic}"),
            Err(still) => {
                println!("{name}: {still}");
                left.push(still.task);
            }
        }
    }

    drop(enough);
    for task in left {
        println!("in the end: {:?}", End::from(task.await));
    }
    Ok(())
}
