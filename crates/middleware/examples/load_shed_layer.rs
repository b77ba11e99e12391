//! cargo run --example load_shed_layer
//!
//! A service that works on two requests at once, and a queue with places for two and one in the hand
//! of its worker; twelve requests come. Those that find no place are refused at once. The clock is
//! virtual.

use std::num::NonZeroUsize;
use std::time::Duration;

use middleware::load_shed_layer::ShedLayer;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::buffer::BufferLayer;
use tower::limit::ConcurrencyLimitLayer;
use tower::load_shed::error::Overloaded;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

const RUNNING: usize = 2;
const WAITING: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

async fn answer(request: u32) -> Result<String, BoxError> {
    sleep(Duration::from_millis(100)).await;
    Ok(format!("answered {request}"))
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let layer = ShedLayer::new();
    let service = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(BufferLayer::new(WAITING.get()))
        .layer(ConcurrencyLimitLayer::new(RUNNING))
        .service(service_fn(answer));

    let mut requests = JoinSet::new();
    for request in 1..=12 {
        requests.spawn(service.clone().oneshot(request));
        tokio::task::yield_now().await; // they come one by one, and the queue hands on what it can
    }
    let mut refused = 0;
    while let Some(Ok(result)) = requests.join_next().await {
        match result {
            Err(error) if error.is::<Overloaded>() => refused += 1,
            result => {
                let elapsed = started.elapsed().as_millis();
                println!(
                    "{elapsed:>3} ms  {}",
                    result.unwrap_or_else(|error| error.to_string())
                );
            }
        }
    }
    println!("refused: {refused}, counted: {}", layer.shed());
}
