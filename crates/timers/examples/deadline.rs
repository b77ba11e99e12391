//! cargo run --example deadline
//!
//! Three requests with 300 ms each. Their query has 200 ms of its own, or what the request has left;
//! the error says which of the two struck. The clock is virtual, so it ends at once.

use std::time::Duration;

use timers::deadline::{Deadline, DeadlineError};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Prints when it is dropped: the task that owns it is over, done or not.
struct Over(&'static str);

impl Drop for Over {
    fn drop(&mut self) {
        println!("        the {} part is over", self.0);
    }
}

async fn query(parts: [u64; 2]) -> u64 {
    let mut tasks = JoinSet::new(); // owned by this future, so they end with it
    for (name, takes) in ["left", "right"].into_iter().zip(parts) {
        tasks.spawn(async move {
            let _over = Over(name);
            sleep(ms(takes)).await;
            takes
        });
    }
    tasks.join_all().await.into_iter().sum()
}

async fn handle(request: Deadline, login: u64, parts: [u64; 2]) -> Result<u64, DeadlineError> {
    request.run("login", sleep(ms(login))).await?;
    println!("{login:>3} ms  logged in, {:?} left", request.remaining());
    let limit = request.child("query", ms(200));
    limit.run("select", query(parts)).await
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    for (login, parts) in [(50, [80, 120]), (50, [80, 500]), (180, [80, 160])] {
        let started = Instant::now();
        let answer = handle(Deadline::within("request", ms(300)), login, parts).await;
        let answer = answer.map_or_else(|error| error.to_string(), |sum| format!("answer {sum}"));
        println!("{:>3} ms  {answer}", started.elapsed().as_millis());
        yield_now().await; // the tasks of a query that was cut off end a moment later
    }
}
