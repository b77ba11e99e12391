//! A drop cannot await.

struct Connection;

impl Drop for Connection {
    async fn drop(&mut self) {
        tokio::task::yield_now().await;
    }
}

fn main() {}
