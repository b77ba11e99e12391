//! Where a trait is not one's own, the caller would have to say that the future is `Send`.

trait Store {
    async fn get(&self) -> u8;
}

/// So that tools which only know stable Rust can read this file.
macro_rules! as_it_is {
    ($($code:tt)*) => { $($code)* };
}

as_it_is! {
    fn spawn<S: Store<get(..): Send> + Send + Sync + 'static>(store: S) {
        tokio::spawn(async move { store.get().await });
    }
}

fn main() {}
