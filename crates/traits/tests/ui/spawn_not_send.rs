//! What lives across an await in a spawned task must be `Send`.

use std::rc::Rc;

fn main() {
    tokio::spawn(async {
        let shared = Rc::new(7);
        tokio::task::yield_now().await;
        drop(shared);
    });
}
