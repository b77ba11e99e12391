//! # Nested read: RwLock::read while a read guard is held
//!
//! Readers do not exclude each other, so a function that holds a read guard calls another that
//! takes one. That is fine until a writer comes in between. It waits for the first guard; the
//! second read waits behind the writer, as all readers do that come after it; and the first guard
//! waits for that.
//!
//! ## You have it when
//! - everything that reads the table hangs at once, some hours after the start, and never while one
//!   looks: it takes a write between two reads of one task;
//! - the waiting stacks end in `RwLock::read` as well as in `RwLock::write`, and nobody writes;
//! - it came with a refactoring: a loop was made a function, and took the lock itself.
//!
//! ## What it does to you
//! - One price that changes while an order is summed up: the sum, the change, and 100 readers that
//!   come later wait for ever. With no change in between, the same sum takes its 20 ms.
//! - The documentation of tokio's `RwLock` says so (it is fair, and a writer that waits stops
//!   readers). That of std promises nothing, and on Linux its `RwLock` does the same, with threads.
//!
//! ## Use instead
//! - `read_mostly`: a snapshot is no lock. Take one, pass it down, and all parts of the sum see the
//!   same prices;
//! - `short_lock` if the state is small; or pass the guard's content down, `&HashMap`, not the
//!   lock.

use std::collections::HashMap;

use tokio::sync::RwLock;

/// Prices that many read and few change.
#[derive(Debug, Default)]
pub struct Prices {
    table: RwLock<HashMap<String, u64>>,
}

impl Prices {
    /// Changes one price.
    pub async fn set(&self, item: &str, price: u64) {
        self.table.write().await.insert(item.to_owned(), price);
    }

    /// One price.
    pub async fn price(&self, item: &str) -> Option<u64> {
        self.table.read().await.get(item).copied()
    }

    /// The sum of an order, at prices that do not change meanwhile. `stock` asks another service.
    pub async fn sum(&self, order: &[&str], stock: impl AsyncFn(&str) -> u64) -> Option<u64> {
        let _unchanged = self.table.read().await;
        let mut sum = 0;
        for item in order {
            sum += stock(item).await * self.price(item).await?; // reads again
        }
        Some(sum)
    }
}
