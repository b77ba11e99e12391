//! What becomes of events that do not fit, and of those that nobody stores any more.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antipatterns::try_send_dropped::EventLog;
use structured::load_shedding::{Counts, NotQueued, WhenFull, shedding_queue};
use tokio::time::sleep;

const TAKES: Duration = Duration::from_millis(33);
const A_MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn harm_of_a_burst_of_a_thousand_events_the_first_hundred_are_left() {
    let stored = Arc::new(Mutex::new(Vec::new()));
    let store = Arc::clone(&stored);
    let log = EventLog::start(move |event| {
        store.lock().unwrap().push(event);
        sleep(TAKES)
    });
    for event in 0..1000 {
        log.record(event);
    }
    sleep(A_MINUTE).await;
    assert_eq!(*stored.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn harm_a_store_that_has_panicked_loses_all_of_them() {
    let begun = Arc::new(AtomicUsize::new(0));
    let begins = Arc::clone(&begun);
    let log = EventLog::start(move |event| {
        begins.fetch_add(1, Relaxed);
        async move { panic!("no table for {event}") }
    });
    for event in 0..1000 {
        let () = log.record(event); // says nothing, to nobody
        sleep(TAKES).await;
    }
    assert_eq!(begun.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn mended_the_newest_stay_and_each_that_is_dropped_is_counted_and_told() {
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&dropped);
    let hundred = NonZeroUsize::new(100).unwrap();
    let (log, mut events) = shedding_queue(hundred, WhenFull::DropOldest, move |event, _| {
        tell.lock().unwrap().push(event);
    });
    for event in 0..1000 {
        log.push(event).await.unwrap();
    }
    let expected = Counts {
        queued: 1000,
        waiting: 100,
        dropped_oldest: 900,
        ..Counts::default()
    };
    assert_eq!(log.counts(), expected);
    assert_eq!(*dropped.lock().unwrap(), (0..900).collect::<Vec<_>>());
    assert_eq!(events.next().await, Some(900));

    drop(events); // as when the task that stores them panics
    assert_eq!(log.push(1000).await, Err(NotQueued::Closed(1000)));
    assert_eq!(log.counts().unread, 99);
}
