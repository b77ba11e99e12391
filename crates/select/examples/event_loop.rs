//! cargo run --example event_loop
//!
//! A task stores documents, one at a time, and renews its lease every 100 ms, also while a document
//! takes longer. It is stopped in the middle of the third, which is finished; the last one is stored
//! by a second call. The clock is virtual, so it ends at once.

use std::time::Duration;

use select::event_loop::{Settings, event_loop};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let say = |what: &str| println!("{:>3} ms  {what}", started.elapsed().as_millis());
    let settings = Settings {
        period: ms(100),
        grace: ms(200),
    };
    let (sender, mut documents) = mpsc::channel(10);
    let stop = CancellationToken::new();

    for document in [("letter", 30), ("book", 250), ("report", 150), ("memo", 20)] {
        sender.send(document).await.ok();
    }
    let user = async {
        sleep(ms(310)).await;
        stop.cancel();
        say("stop");
        sleep(ms(10)).await;
        if let Err(refused) = sender.send(("poem", 10)).await {
            say(&format!("{} comes back to its sender", refused.0.0));
        }
    };
    let mut stored = 0; // the state belongs to the handler
    let mut store = async |(name, takes): (&str, u64)| {
        sleep(ms(takes)).await;
        stored += 1;
        say(&format!("stored {name}, number {stored}"));
    };
    let renew = async || say("    lease renewed");
    let run = event_loop(settings, &mut documents, &stop, &mut store, renew);
    let (ended, ()) = tokio::join!(run, user);
    say(&format!("{ended:?}"));

    let no_stop = CancellationToken::new(); // cancel it when your patience ends
    let ended = event_loop(settings, &mut documents, &no_stop, store, async || {}).await;
    say(&format!("{ended:?}"));
}
