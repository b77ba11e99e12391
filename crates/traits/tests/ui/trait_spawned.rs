//! An `async fn` in a trait does not say that its future is `Send`, so generic code cannot spawn it.

trait Store {
    async fn get(&self) -> u8;
}

fn spawn<S: Store + Send + Sync + 'static>(store: S) {
    tokio::spawn(async move { store.get().await });
}

fn main() {}
