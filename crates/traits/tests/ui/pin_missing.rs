//! A future that is polled by reference has to be pinned first.

async fn work() {}

#[tokio::main]
async fn main() {
    let mut future = work();
    (&mut future).await;
}
