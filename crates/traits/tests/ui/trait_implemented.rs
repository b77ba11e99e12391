//! With `Send` in the trait, an implementation that is not is an error where it is written.

use std::future::Future;
use std::rc::Rc;

trait Store {
    fn get(&self) -> impl Future<Output = u8> + Send;
}

struct Shared;

impl Store for Shared {
    async fn get(&self) -> u8 {
        let shared = Rc::new(7);
        tokio::task::yield_now().await;
        *shared
    }
}

fn main() {}
