//! What a subscriber does that takes a lag for the end, or for nothing.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::lagged_as_closed::{handle_all, handle_all_but_some};
use channels::event_bus::{EventBus, State, Update};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Sender, channel};
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);

/// Publishes 1 to 1,000, one each 2 ms. Tells how many of them nobody was there for.
async fn publish(events: Sender<u64>) -> usize {
    let mut unheard = 0;
    for event in 1..=1_000 {
        unheard += usize::from(events.send(event).is_err());
        sleep(2 * MS).await;
    }
    unheard
}

/// What a handler does for an event: nothing much, but one of them takes `slow`, an odd number of
/// milliseconds.
async fn work(event: u64, slow: Duration) {
    if event == 10 {
        sleep(slow).await;
    }
}

/// How many events were handled, and how many found no subscriber, with so many others beside it.
async fn handled(slow: Duration, others: usize) -> (u64, usize) {
    let (sender, events) = channel(16);
    let _others: Vec<_> = (0..others).map(|_| sender.subscribe()).collect();
    let mut handled = 0;
    let subscriber = handle_all(events, async |event| {
        work(event, slow).await;
        handled += 1;
    });
    let (unheard, ()) = tokio::join!(publish(sender), subscriber);
    (handled, unheard)
}

#[tokio::test(start_paused = true)]
async fn harm_one_slow_event_ends_the_subscriber_while_the_channel_is_open() {
    assert_eq!(handled(101 * MS, 0).await, (10, 940), "of 1,000");
}

#[tokio::test(start_paused = true)]
async fn harm_with_another_subscriber_the_publisher_hears_nothing_of_it() {
    assert_eq!(handled(101 * MS, 1).await, (10, 0));
}

#[tokio::test(start_paused = true)]
async fn harm_up_to_the_capacity_nothing_is_lost_so_its_test_passes() {
    assert_eq!(handled(31 * MS, 0).await, (1_000, 0));
}

#[tokio::test(start_paused = true)]
async fn harm_passing_over_the_lag_leaves_a_hole() {
    let (sender, events) = channel(16);
    let mut handled = 0;
    let subscriber = handle_all_but_some(events, async |event| {
        work(event, 101 * MS).await;
        handled += 1;
    });
    tokio::join!(publish(sender), subscriber);
    assert_eq!(handled, 1_000 - 34);
}

#[tokio::test]
async fn harm_the_error_names_a_lag_and_the_next_call_goes_on() {
    let (sender, mut events) = channel(16);
    for event in 1..=40 {
        sender.send(event).unwrap();
    }
    let lag = events.recv().await.unwrap_err();
    assert_eq!(lag, RecvError::Lagged(24));
    assert_eq!(lag.to_string(), "channel lagged by 24");
    assert_eq!(events.recv().await, Ok(25));
}

/// How many events there were.
#[derive(Debug, Clone)]
struct Count(u64);

impl State for Count {
    type Event = ();
    fn apply(&mut self, (): &()) {
        self.0 += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn mended_the_same_subscriber_has_the_right_count_in_the_end() {
    let bus = EventBus::new(Count(0), NonZeroUsize::new(16).unwrap()).unwrap();
    let mut updates = bus.subscribe();
    let publisher = async move {
        for _ in 0..1_000 {
            bus.publish(());
            sleep(2 * MS).await;
        }
    };
    let subscriber = async {
        let mut count = Count(0);
        let mut lags = 0;
        while let Some(update) = updates.next().await {
            match update {
                Update::Event(()) => count.apply(&()),
                Update::Snapshot { state, missed } => {
                    count = (*state).clone();
                    lags += usize::from(missed > 0);
                }
            }
            work(count.0, 101 * MS).await;
        }
        (count.0, lags)
    };
    assert_eq!(tokio::join!(publisher, subscriber).1, (1_000, 1));
}
