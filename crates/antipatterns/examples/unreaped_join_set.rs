//! cargo run --example unreaped_join_set
//!
//! 5,000 connections, one after the other, with a limit of 1,000 at once: never more than one is
//! open. How many are served, and what is held afterwards?

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use antipatterns::unreaped_join_set::Connections;
use tasks::join_set::TaskSet;
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);
const COME: usize = 5_000;
const MAX: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// Answers, and leaves a result of so much memory.
async fn connection(memory: Arc<()>) -> Arc<()> {
    sleep(MS).await;
    memory
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let memory = Arc::new(());
    let held = || Arc::strong_count(&memory) - 1;
    let mut connections = Connections::new(MAX.get());
    let mut served = 0;
    for _ in 0..COME {
        served += usize::from(connections.serve(connection(Arc::clone(&memory))));
        sleep(2 * MS).await; // it has ended
    }
    println!(
        "JoinSet:  {served} of {COME} served, {} results held",
        held()
    );
    drop(connections);

    let mut tasks = TaskSet::new(MAX);
    let mut served = 0;
    for number in 0..COME {
        let connection = connection(Arc::clone(&memory));
        served += usize::from(tasks.spawn(number, connection).is_ok());
        tasks.next().await; // in a server: a branch of `select!`, beside `accept`
    }
    println!(
        "join_set: {served} of {COME} served, {} results held",
        held()
    );
}
