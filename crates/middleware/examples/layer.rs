//! cargo run --example layer
//!
//! A kitchen with one cook behind a queue, and guests who leave at different times. Who has left is
//! not cooked for: only the pie is begun in vain. The clock is virtual, so it ends at once.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::FutureExt;
use middleware::layer::{DeadlineError, DeadlineLayer};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt};

#[derive(Debug)]
struct Order {
    dish: &'static str,
    leaves: Option<Instant>,
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let at = move || started.elapsed().as_millis();
    let deadline = DeadlineLayer::new(|order: &Order| order.leaves);
    let kitchen = ServiceBuilder::new()
        .layer(deadline) // outside of the queue: the guest leaves while waiting as well
        .buffer(10)
        .concurrency_limit(1)
        .service_fn(move |order: Order| async move {
            println!("{:>3} ms    the cook begins: {}", at(), order.dish);
            sleep(Duration::from_millis(80)).await;
            Ok::<_, Infallible>(())
        });

    let mut orders = JoinSet::new();
    for (dish, patience) in [
        ("soup", Some(100)),
        ("pie", Some(100)),
        ("stew", Some(100)),
        ("rice", None),
        ("late", Some(0)),
    ] {
        let leaves = patience.map(|ms| started + Duration::from_millis(ms));
        let served = kitchen.clone().oneshot(Order { dish, leaves });
        orders.spawn(served.map(move |result| (dish, result)));
    }
    while let Some(Ok((dish, result))) = orders.join_next().await {
        let end = match result {
            Ok(()) => "served".to_owned(),
            Err(DeadlineError::Inner(error)) => format!("the kitchen failed: {error}"),
            Err(too_late) => too_late.to_string(),
        };
        println!("{:>3} ms  {dish}: {end}", at());
    }
}
