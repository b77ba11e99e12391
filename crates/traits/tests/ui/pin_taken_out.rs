//! What was pinned cannot be taken out again.

use std::pin::pin;

async fn work() {}

#[tokio::main]
async fn main() {
    let pinned = pin!(work());
    tokio::spawn(*pinned);
}
