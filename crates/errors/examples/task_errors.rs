//! cargo run --example task_errors
//!
//! Five lookups run as tasks: one is found, one is not, one panics, one is aborted, and one caller
//! gives up waiting, which aborts its task. The clock is virtual.

use std::time::Duration;

use errors::task_errors::{TaskError, join};
use thiserror::Error;
use tokio::time::{sleep, timeout};

const MS: Duration = Duration::from_millis(1);

#[derive(Debug, Error)]
#[error("no user has the number {0}")]
struct NoUser(u32);

async fn look_up(user: u32) -> Result<&'static str, NoUser> {
    sleep(10 * MS).await;
    assert!(user != 3, "the table ends at 2");
    match user {
        1 => Ok("Ann"),
        2 => Err(NoUser(user)),
        _ => {
            sleep(1_000 * MS).await;
            println!("  {user}: this is never printed");
            Ok("Zoe")
        }
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the task's error tells of the panic
    for user in 1..=5 {
        let task = tokio::spawn(look_up(user));
        if user == 4 {
            let abort = task.abort_handle();
            tokio::spawn(async move {
                sleep(20 * MS).await;
                abort.abort();
            });
        }
        let Ok(result) = timeout(100 * MS, join(task)).await else {
            println!("{user}: waited long enough");
            continue;
        };
        match result {
            Ok(name) => println!("{user}: {name}"),
            Err(TaskError::Failed(error)) => println!("{user}: {error}"),
            Err(error) => println!("{user}: no fault of the input: {error}"),
        }
    }
    sleep(2_000 * MS).await;
}
