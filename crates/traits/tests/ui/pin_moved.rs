//! What was given to `pin!` is moved there, and cannot be moved again.

use std::pin::pin;

async fn work() {}

#[tokio::main]
async fn main() {
    let future = work();
    let pinned = pin!(future);
    tokio::spawn(future);
    pinned.await;
}
