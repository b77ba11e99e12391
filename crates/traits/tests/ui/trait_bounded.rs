//! Where a trait is not one's own, the caller would have to say that the future is `Send`.

trait Store {
    async fn get(&self) -> u8;
}

fn spawn<S: Store<get(..): Send> + Send + Sync + 'static>(store: S) {
    tokio::spawn(async move { store.get().await });
}

fn main() {}
