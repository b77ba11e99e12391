//! `AsyncFn` does not say that its future is `Send`, so generic code cannot spawn it.

fn spawn<F: AsyncFn() + Send + Sync + 'static>(work: F) {
    tokio::spawn(async move { work().await });
}

fn main() {}
