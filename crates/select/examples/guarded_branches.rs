//! cargo run --example guarded_branches
//!
//! Prices come every 10 ms, and their reader takes 41 ms for each. A queue would make it read ever
//! older ones; here only the latest price of each share waits. The clock is virtual.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::time::Duration;

use select::guarded_branches::{Waiting, pump};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// A share's name, its price and since when it is that.
type Price = (&'static str, u32, Instant);

/// One price of each share, in the order in which the shares came.
struct Latest(VecDeque<Price>);

impl Waiting<Price> for Latest {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn put(&mut self, price: Price) {
        match self.0.iter_mut().find(|old| old.0 == price.0) {
            Some(old) => *old = price,
            None => self.0.push_back(price),
        }
    }

    fn take(&mut self) -> Option<Price> {
        self.0.pop_front()
    }
}

/// Prints what the reader gets, and how old it is.
async fn read(mut waiting: impl Waiting<Price>) {
    let (market, mut prices) = mpsc::channel(1);
    let (to, mut reader) = mpsc::channel(1);
    let publish = async move {
        for cents in 100..112 {
            sleep(Duration::from_millis(10)).await;
            let share = if cents % 5 == 0 { "rare" } else { "busy" };
            market.send((share, cents, Instant::now())).await.ok(); // `pump` reads to the end
        }
    };
    let pumping = async move {
        let limit = NonZeroUsize::MIN.saturating_add(99);
        if let Err(closed) = pump(&mut prices, &to, &mut waiting, limit).await {
            println!("{closed}");
        }
    };
    let print = async {
        while let Some((share, cents, at)) = reader.recv().await {
            println!("  {share} {cents}, {:>3} ms old", at.elapsed().as_millis());
            sleep(Duration::from_millis(41)).await;
        }
    };
    tokio::join!(publish, pumping, print);
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    println!("all, the oldest first:");
    read(VecDeque::new()).await;
    println!("the latest of each share:");
    read(Latest(VecDeque::new())).await;
}
