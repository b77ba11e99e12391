//! cargo run --example short_lock
//!
//! Four tasks move money between two accounts. One panics half way: from then on the state is
//! refused, until another task has mended it. The clock is virtual.

use std::error::Error;
use std::time::Duration;

use sync::short_lock::{Poisoned, Shared};
use tokio::task::JoinSet;
use tokio::time::sleep;

#[derive(Debug)]
struct Accounts {
    ours: u64,
    theirs: u64,
}

fn transfer(accounts: &Shared<Accounts>, amount: u64) -> Result<u64, Poisoned> {
    accounts.with(|accounts| {
        accounts.ours -= amount;
        assert!(amount != 13, "unlucky");
        accounts.theirs += amount;
        accounts.ours
    })
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    std::panic::set_hook(Box::new(|_| {})); // the task's result tells of the panic
    let accounts = Shared::new(Accounts {
        ours: 100,
        theirs: 0,
    });

    let mut tasks = JoinSet::new();
    for amount in [10, 13, 20, 30] {
        let accounts = accounts.clone();
        tasks.spawn(async move {
            // Awaits stand between the closures, never in them.
            sleep(Duration::from_millis(amount)).await;
            let mut left = transfer(&accounts, amount);
            if let Err(poisoned) = &left {
                println!("{amount}: {poisoned}");
                accounts.heal(|accounts| accounts.ours = 100 - accounts.theirs);
                left = transfer(&accounts, amount);
            }
            left.map(|left| println!("{amount}: moved, {left} left"))
        });
    }
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(result) => result?,
            Err(ended) => println!("a task panicked: {}", ended.is_panic()),
        }
    }
    accounts.with(|accounts| println!("at the end: {accounts:?}"))?;
    Ok(())
}
