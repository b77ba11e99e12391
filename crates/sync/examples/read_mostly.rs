//! cargo run --example read_mostly
//!
//! A request takes a snapshot and keeps to it, while an operator changes the limits, and a slow
//! lookup finds that it was overtaken. The clock is virtual.

use std::num::ParseIntError;
use std::time::Duration;

use sync::read_mostly::{Outdated, Store};
use tokio::time::sleep;

#[derive(Clone, Debug)]
struct Limits {
    connections: u32,
    region: String,
}

const MS: Duration = Duration::from_millis(1);

async fn request(limits: Store<Limits>) {
    let seen = limits.snapshot(); // one for the whole request
    println!("request begins: {seen:?}");
    sleep(100 * MS).await;
    println!("request ends:   {seen:?}");
    let latest = limits.read(|limits| limits.connections);
    println!("the next one:   {latest} connections");
}

async fn operator(limits: Store<Limits>) {
    sleep(50 * MS).await;
    for input in ["many", "200"] {
        let change = limits.try_update(|limits| {
            let connections = input.parse()?;
            Ok::<_, ParseIntError>(Limits {
                connections,
                ..limits.clone()
            })
        });
        match change {
            Ok(replaced) => println!("operator:       {} to {input}", replaced.connections),
            Err(error) => println!("operator:       {error}, nothing is changed"),
        }
    }
}

/// Builds on a snapshot, with an await in between.
async fn lookup(limits: Store<Limits>) {
    let mut seen = limits.snapshot();
    loop {
        sleep(75 * MS).await;
        let mut next = Limits::clone(&seen);
        next.region = format!("eu-{}", next.connections);
        match limits.replace(&seen, next) {
            Ok(()) => return,
            Err(Outdated { refused, latest }) => {
                println!("lookup:         {} is outdated", refused.region);
                seen = latest;
            }
        }
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let limits = Store::new(Limits {
        connections: 100,
        region: "unknown".to_owned(),
    });
    tokio::join!(
        request(limits.clone()),
        operator(limits.clone()),
        lookup(limits.clone())
    );
    println!("at the end:     {:?}", limits.snapshot());
}
