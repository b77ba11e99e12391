//! cargo run --example lagged_as_closed
//!
//! A thousand events, one each 2 ms; a subscriber counts them, and one takes it 0.1 s.

use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::lagged_as_closed::handle_all;
use channels::event_bus::{EventBus, State, TooLarge, Update};
use tokio::sync::broadcast::channel;
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);

#[derive(Clone)]
struct Count(u64);

impl State for Count {
    type Event = ();
    fn apply(&mut self, (): &()) {
        self.0 += 1;
    }
}

/// Each event is handled at once, but for the tenth.
async fn work(number: u64) {
    if number == 10 {
        sleep(101 * MS).await;
    }
}

/// Calls `event` a thousand times; what it owns is dropped then, and that closes the channel.
async fn publish(mut event: impl FnMut()) {
    for _ in 0..1_000 {
        event();
        sleep(2 * MS).await;
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), TooLarge> {
    let (sender, events) = channel(16);
    let mut count = 0;
    let subscriber = handle_all(events, async |()| {
        count += 1;
        work(count).await;
    });
    let publisher = publish(move || {
        sender.send(()).ok();
    });
    tokio::join!(publisher, subscriber);
    println!("while let Ok: {count:>4} of 1000 events");

    let bus = EventBus::new(Count(0), NonZeroUsize::MIN.saturating_add(15))?;
    let mut updates = bus.subscribe();
    let mut count = Count(0);
    let subscriber = async {
        while let Some(update) = updates.next().await {
            match update {
                Update::Event(()) => count.apply(&()),
                Update::Snapshot { state, .. } => count = (*state).clone(),
            }
            work(count.0).await;
        }
    };
    tokio::join!(publish(move || bus.publish(())), subscriber);
    println!("event_bus:    {:>4} of 1000 events", count.0);
    Ok(())
}
