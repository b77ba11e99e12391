//! The future of an `async fn` has no name, so what keeps one is generic, or boxes it.

use std::future::Future;

struct Keeps {
    work: impl Future<Output = u8>,
}

fn main() {}
