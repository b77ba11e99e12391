//! cargo run --example first_success
//!
//! Three mirrors: the first refuses at once, the second is slow, the third is quick. They are asked
//! all together, then hedged 50 ms apart, then each only after a failure. The clock is virtual.

use std::time::Duration;

use select::first_success::first_success;
use tokio::time::{Instant, sleep};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let mirrors = [("lima", 5, false), ("oslo", 400, true), ("rome", 80, true)];
    let ways = [
        ("all together", Duration::ZERO),
        ("50 ms apart", Duration::from_millis(50)),
        ("after a failure", Duration::MAX),
    ];
    for (way, stagger) in ways {
        let started = Instant::now();
        let say = |what: &str| println!("  {:>3} ms  {what}", started.elapsed().as_millis());
        println!("{way}");
        let attempts = mirrors.map(|(name, millis, up)| async move {
            say(&format!("ask {name}"));
            sleep(Duration::from_millis(millis)).await;
            if up {
                Ok(name)
            } else {
                Err(format!("{name} refused"))
            }
        });
        match first_success(attempts, stagger).await {
            Ok(won) => {
                say(&format!(
                    "{} answered, before that {:?}",
                    won.value, won.failed
                ));
            }
            Err(error) => say(&error.to_string()),
        }
    }

    let down = ["lima", "oslo"].map(|name| async move { Err::<(), _>(format!("{name} refused")) });
    if let Err(error) = first_success(down, Duration::ZERO).await {
        println!("none left\n  {error}");
    }
}
