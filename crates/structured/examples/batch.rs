//! cargo run --example batch
//!
//! Five backups, two at a time. First the batch stops at the failure: what was done, what was cut off
//! and what never began are told apart. Then every end is wanted, and each comes with its name as it
//! happens, until the deadline.

use std::future::pending;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::time::Duration;

use structured::batch::{OnFailure, batch, batch_keyed};
use thiserror::Error;
use tokio::time::{Instant, sleep};

const BACKUPS: [(&str, u64); 5] = [
    ("etc", 30),
    ("home", 400),
    ("mail", 100),
    ("var", 50),
    ("srv", 60),
];

#[derive(Debug, Error)]
#[error("{0}: the disk is full")]
struct DiskFull(&'static str);

async fn back_up((name, millis): (&'static str, u64)) -> Result<u64, DiskFull> {
    sleep(Duration::from_millis(millis)).await;
    if name == "mail" {
        return Err(DiskFull(name));
    }
    Ok(millis * 3)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let two = NonZeroUsize::MIN.saturating_add(1);

    let report = batch(two, OnFailure::Stop, pending(), BACKUPS, back_up).await;
    println!("{:>3} ms  stopped", started.elapsed().as_millis());
    for ((name, _), end) in BACKUPS.iter().zip(&report.ends) {
        match end {
            Ok(megabytes) => println!("        {name}: {megabytes} MB"),
            Err(failure) => println!("        {name}: {failure}"),
        }
    }
    for (name, _) in report.never_began.into_iter().flatten() {
        println!("        {name}: never began");
    }

    let started = Instant::now();
    let deadline = sleep(Duration::from_millis(300));
    let inputs = BACKUPS.map(|backup| (backup.0, backup));
    let flow = batch_keyed(two, deadline, inputs, back_up, |name, end| {
        let now = started.elapsed().as_millis();
        match end {
            Ok(megabytes) => println!("{now:>3} ms  {name}: {megabytes} MB"),
            Err(failure) => println!("{now:>3} ms  {name}: {failure}"),
        }
        ControlFlow::Continue(())
    })
    .await;
    let met = if flow.is_break() { "missed" } else { "met" };
    println!("the deadline was {met}");
}
