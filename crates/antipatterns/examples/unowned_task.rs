//! cargo run --example unowned_task
//!
//! A refresher makes a round each minute, and its third panics. How many rounds are made in an hour
//! by a bare spawned task, and by one that has an owner?

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antipatterns::unowned_task::start_refresher;
use tasks::supervisor::{Restarts, Supervisor};
use tokio::task::yield_now;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

const MINUTE: Duration = Duration::from_secs(60);

async fn refresh(rounds: Arc<AtomicU32>) -> Result<(), &'static str> {
    yield_now().await; // a request, in a real program
    let round = rounds.fetch_add(1, Ordering::Relaxed) + 1;
    assert_ne!(round, 3, "malformed row");
    Ok(())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // what is left is what the program itself can know
    let rounds = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&rounds);
    start_refresher(MINUTE, move || refresh(Arc::clone(&count)));
    tokio::time::sleep(60 * MINUTE).await;
    println!("spawned and forgotten: {rounds:?} rounds in an hour");

    let rounds = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&rounds);
    let mut supervisor = Supervisor::<&str>::new(&CancellationToken::new());
    let restarts = Restarts {
        limit: 3,
        healthy_after: 2 * MINUTE,
        first_delay: Duration::from_secs(1),
        max_delay: MINUTE,
    };
    supervisor.spawn("refresher", restarts, move |_| {
        let count = Arc::clone(&count);
        async move {
            let mut ticks = interval(MINUTE);
            loop {
                ticks.tick().await;
                refresh(Arc::clone(&count)).await?;
            }
        }
    });
    let ended = timeout(60 * MINUTE, supervisor.next()).await.ok().flatten();
    println!("supervisor:            {rounds:?} rounds in an hour");
    if let Some(ended) = ended {
        println!("{} has ended: {:?}", ended.name, ended.outcome);
    }
}
