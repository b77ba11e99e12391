//! cargo run --example event_bus
//!
//! People come and go, one every 10 ms. The log prints each event. The screen takes 68 ms to draw,
//! and the bus keeps four events: it misses some, and goes on from the state of then.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use channels::event_bus::{EventBus, State, Subscription, Update};
use tokio::time::{Instant, sleep};

#[derive(Clone, Default)]
struct Room(BTreeSet<&'static str>);

#[derive(Clone, Debug)]
enum Event {
    Joined(&'static str),
    Left(&'static str),
}

impl State for Room {
    type Event = Event;

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Joined(name) => self.0.insert(name),
            Event::Left(name) => self.0.remove(name),
        };
    }
}

async fn follow(name: &str, takes: Duration, mut room: Subscription<Room>, started: Instant) {
    while let Some(update) = room.next().await {
        let text = match update {
            Update::Event(event) => format!("{event:?}"),
            Update::Snapshot { state, missed } => format!("missed {missed}, now {:?}", state.0),
        };
        println!("{:>3} ms  {name}: {text}", started.elapsed().as_millis());
        sleep(takes).await;
    }
    println!("{:>3} ms  {name}: closed", started.elapsed().as_millis());
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use Event::{Joined, Left};
    let four = NonZeroUsize::MIN.saturating_add(3);
    let (bus, started) = (EventBus::new(Room::default(), four)?, Instant::now());
    let log = follow("log   ", Duration::ZERO, bus.subscribe(), started);
    let screen = follow(
        "screen",
        Duration::from_millis(68),
        bus.subscribe(),
        started,
    );
    let people = async move {
        let morning = [Joined("Ann"), Joined("Bob"), Joined("Cyd"), Left("Bob")];
        let evening = [Joined("Dee"), Left("Ann"), Joined("Eve"), Left("Cyd")];
        for event in morning.into_iter().chain(evening) {
            sleep(Duration::from_millis(10)).await;
            bus.publish(event);
        }
    }; // with the last bus goes the reason to wait for more
    tokio::join!(log, screen, people);
    Ok(())
}
