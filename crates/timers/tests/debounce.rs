//! What debouncing promises, and what the forms without its bounds do.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use testing::every_await_point::{Outcome, every_await_point};
use timers::debounce::{Burst, Debounce, Wait};
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::{Instant, advance, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);
const WAIT: Wait = Wait {
    quiet: Duration::from_millis(100),
    longest: Duration::from_secs(1),
};

/// Sends 0, 1, 2…, the first at once and each other after its gap in ms; then ends.
fn events(gaps: &'static [u32]) -> Receiver<usize> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        for (event, gap) in [0].iter().chain(gaps).enumerate() {
            sleep(*gap * MS).await;
            sender.send(event).await.unwrap();
        }
        sleep(LIMIT).await;
    });
    receiver
}

/// The instant in ms and the value of each burst, up to the channel's end.
async fn bursts(wait: Wait, events: Receiver<usize>) -> Vec<(u128, usize)> {
    let started = Instant::now();
    let mut debounce = Debounce::latest(events, wait);
    let mut bursts = Vec::new();
    while let Some(burst) = debounce.next().await {
        bursts.push((started.elapsed().as_millis(), burst.value));
    }
    bursts
}

#[tokio::test(start_paused = true)]
async fn a_burst_ends_when_it_has_been_quiet_for_the_stated_time() {
    let gaps = &[20, 99, 30, 101, 10];
    assert_eq!(bursts(WAIT, events(gaps)).await, [(249, 3), (360, 5)]);
}

#[tokio::test(start_paused = true)]
async fn it_is_shown_by_its_wait_and_whether_a_burst_has_begun() {
    let mut debounce = Debounce::latest(events(&[]), WAIT);
    let shown = |in_a_burst| format!("Debounce {{ wait: {WAIT:?}, in_a_burst: {in_a_burst}, .. }}");
    assert_eq!(format!("{debounce:?}"), shown(false));
    timeout(MS, debounce.next()).await.unwrap_err();
    assert_eq!(format!("{debounce:?}"), shown(true));
}

#[tokio::test(start_paused = true)]
async fn events_without_a_pause_are_given_after_the_longest_delay() {
    let gaps = &[90; 24]; // at 0, 90, … 2,160 ms
    let found = bursts(WAIT, events(gaps)).await;
    // Begun at 0, 1,080 and 2,160 ms.
    assert_eq!(found, [(1_000, 11), (2_080, 23), (2_260, 24)]);
}

#[tokio::test(start_paused = true)]
async fn the_longest_delay_holds_though_the_channel_is_never_empty() {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move { while sender.send(0).await.is_ok() {} });
    let mut debounce = Debounce::merging(receiver, WAIT, |sum, event| *sum += event);
    // The clock moves by itself only when every task waits, so let a task move it.
    let clock = tokio::spawn(async {
        loop {
            advance(MS).await;
        }
    });
    let burst = debounce.next().await.unwrap();
    clock.abort();
    assert!(burst.last - burst.first <= WAIT.longest);
    assert!(burst.first.elapsed() <= WAIT.longest + 2 * MS);
    assert!(burst.events.get() > 1_000, "{}", burst.events);
}

/// The last instant that the clock can count.
fn last_instant() -> Instant {
    let mut last = Instant::now();
    for power in (0..=93).rev() {
        let step = Duration::from_nanos_u128(1 << power);
        while let Some(later) = last.checked_add(step) {
            last = later;
        }
    }
    last
}

#[tokio::test(start_paused = true)]
async fn at_the_end_of_the_clock_there_is_no_panic_and_no_burst() {
    let wait = last_instant() - Instant::now();
    let (quiet, longest) = (wait, wait);
    let mut debounce = Debounce::latest(events(&[]), Wait { quiet, longest });
    timeout(LIMIT / 2, debounce.next()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn the_last_event_is_given_at_once_when_the_channel_ends() {
    let started = Instant::now();
    let (sender, receiver) = mpsc::channel(16);
    sender.send("first").await.unwrap();
    sender.send("last").await.unwrap();
    drop(sender);
    let mut debounce = Debounce::latest(receiver, WAIT);
    assert_eq!(debounce.next().await.unwrap().value, "last");
    assert_eq!(debounce.next().await, None);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn merging_keeps_every_event_and_tells_when_they_came() {
    let started = Instant::now();
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        for event in ["a", "b", "c"] {
            sleep(10 * MS).await;
            sender.send(event.to_owned()).await.unwrap();
        }
        pending::<()>().await;
    });
    let mut debounce = Debounce::merging(receiver, WAIT, |all, event| all.push_str(&event));
    let burst = debounce.next().await.unwrap();
    let expected = Burst {
        value: "abc".to_owned(),
        events: burst.events,
        first: started + 10 * MS,
        last: started + 30 * MS,
    };
    assert_eq!((burst.events.get(), burst), (3, expected));
    assert_eq!(started.elapsed(), 130 * MS);
}

#[tokio::test(start_paused = true)]
async fn without_events_nothing_is_given() {
    let (sender, receiver) = mpsc::channel::<()>(1);
    let mut debounce = Debounce::latest(receiver, WAIT);
    timeout(24 * 60 * LIMIT, debounce.next()).await.unwrap_err();
    drop(sender);
    assert_eq!(debounce.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_time_of_zero_makes_each_event_a_burst() {
    advance(Duration::from_micros(500)).await; // timers count whole milliseconds, rounded up
    let wait = Wait {
        quiet: Duration::ZERO,
        ..WAIT
    };
    let (sender, receiver) = mpsc::channel(16);
    for event in 0..5 {
        sender.send(event).await.unwrap();
    }
    drop(sender);
    let expected = [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)];
    assert_eq!(bursts(wait, receiver).await, expected);
    advance(Duration::from_micros(500)).await;
    // The same for a longest delay of zero.
    let wait = Wait {
        longest: Duration::ZERO,
        ..WAIT
    };
    assert_eq!(bursts(wait, events(&[10])).await, [(0, 0), (10, 1)]);
}

#[tokio::test(start_paused = true)]
async fn enormous_waits_are_no_bound() {
    let never = Wait {
        quiet: Duration::MAX,
        longest: Duration::MAX,
    };
    // Only the channel's end, 60 s after the last event, ends the burst.
    assert_eq!(bursts(never, events(&[500])).await, [(60_500, 1)]);
    let unbounded = Wait {
        longest: Duration::MAX,
        ..WAIT
    };
    assert_eq!(bursts(unbounded, events(&[90; 24])).await, [(2_260, 24)]);
    let long = Wait {
        quiet: Duration::MAX,
        ..WAIT
    };
    assert_eq!(bursts(long, events(&[500])).await, [(1_000, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_wait_loses_no_event_and_goes_on_with_the_same_burst() {
    type State = (Instant, Debounce<usize, fn(&mut usize, usize)>);
    let setup = async || {
        let debounce = Debounce::latest(events(&[50, 50]), WAIT);
        (Instant::now(), debounce)
    };
    let operation = async |(_, debounce): &mut State| debounce.next().await;
    let check = async |(started, mut debounce): State, outcome| {
        let burst = match outcome {
            Outcome::Dropped(_) => debounce.next().await,
            Outcome::Completed(burst) => burst,
        };
        let burst = burst.unwrap();
        assert_eq!((burst.value, burst.events.get()), (2, 3));
        assert_eq!(started.elapsed(), 200 * MS);
    };
    let points = every_await_point(LIMIT, setup, operation, check).await;
    assert!(points.unwrap() >= 4);
}

#[tokio::test(start_paused = true)]
async fn harm_a_quiet_time_alone_never_ends_a_steady_stream() {
    let (sender, mut events) = mpsc::channel(16);
    tokio::spawn(async move {
        while sender.send(()).await.is_ok() {
            sleep(90 * MS).await;
        }
    });
    let naive = async {
        let mut read = 0;
        while let Ok(Some(())) = timeout(WAIT.quiet, events.recv()).await {
            read += 1;
        }
        read
    };
    timeout(60 * LIMIT, naive).await.unwrap_err(); // an hour, 40,000 events, no action
}

#[tokio::test(start_paused = true)]
async fn harm_senders_wait_while_the_owner_acts() {
    let (sender, receiver) = mpsc::channel(2);
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    tokio::spawn(async move {
        while sender.send(()).await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
            sleep(10 * MS).await;
        }
    });
    let mut debounce = Debounce::latest(receiver, WAIT);
    debounce.next().await.unwrap();
    let before = sent.load(Ordering::SeqCst);
    sleep(LIMIT).await; // the action
    assert_eq!(sent.load(Ordering::SeqCst) - before, 2);
}

#[tokio::test(start_paused = true)]
async fn harm_a_delay_per_event_acts_for_each() {
    let acted = Arc::new(AtomicUsize::new(0));
    let mut events = events(&[10; 9]);
    while let Ok(Some(_)) = timeout(20 * MS, events.recv()).await {
        let acted = Arc::clone(&acted);
        tokio::spawn(async move {
            sleep(WAIT.quiet).await;
            acted.fetch_add(1, Ordering::SeqCst);
        });
    }
    sleep(LIMIT).await;
    assert_eq!(acted.load(Ordering::SeqCst), 10);
}
