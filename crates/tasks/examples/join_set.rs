//! cargo run --example join_set
//!
//! Five mirrors are asked, three at a time. Each answer is printed as it comes, with the mirror it
//! came from. One panics; the slowest is given up once three have answered.

use std::num::NonZeroUsize;
use std::time::Duration;

use tasks::join_set::{Full, TaskSet};
use tokio::time::{Instant, sleep};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    std::panic::set_hook(Box::new(|_| {})); // the end tells of the panic; once is enough
    let started = Instant::now();
    let ask = async |millis| {
        sleep(Duration::from_millis(millis)).await;
        assert!(millis != 50, "a malformed answer");
        format!("{millis} files")
    };
    let mirrors = [
        ("oslo", 80),
        ("lima", 900),
        ("rome", 20),
        ("kyiv", 50),
        ("bern", 40),
    ];
    let mut mirrors = mirrors.into_iter();
    let mut tasks = TaskSet::new(NonZeroUsize::MIN.saturating_add(2));
    let mut answers = 0;

    loop {
        while !tasks.is_full()
            && let Some((mirror, millis)) = mirrors.next()
        {
            println!("{:>3} ms  {mirror}: asked", started.elapsed().as_millis());
            tasks
                .spawn(mirror, ask(millis))
                .map_err(|Full { key, .. }| format!("no room for {key}"))?;
        }
        let Some(ended) = tasks.next().await else {
            break; // every mirror was asked, and every end was read
        };
        let now = started.elapsed().as_millis();
        match ended.result {
            Ok(answer) => {
                println!("{now:>3} ms  {}: {answer}", ended.key);
                answers += 1;
            }
            Err(error) => println!("{now:>3} ms  {}: {error}", ended.key),
        }
        if answers == 3 {
            tasks.abort(|mirror| *mirror == "lima");
        }
    }
    Ok(())
}
