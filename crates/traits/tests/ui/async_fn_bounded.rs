//! The future of an `AsyncFn` has a name, but not on stable Rust.

fn spawn<F>(work: F)
where
    F: AsyncFn() + Send + Sync + 'static,
    for<'a> F::CallRefFuture<'a>: Send,
{
    tokio::spawn(async move { work().await });
}

fn main() {}
