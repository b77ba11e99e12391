//! What the event bus promises.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::num::NonZeroUsize;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use channels::event_bus::{EventBus, MAX_CAPACITY, State, Subscription, TooLarge, Update};
use testing::every_await_point::every_await_point;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

/// The number of the last event. Events are numbered from 1: an event that does not follow the
/// state shows a gap or a double.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Last(u64);

impl State for Last {
    type Event = u64;

    fn apply(&mut self, event: &u64) {
        assert_ne!(*event, u64::MAX, "the last number");
        self.0 = *event;
    }
}

fn bus(capacity: usize) -> EventBus<Last> {
    EventBus::new(Last(0), NonZeroUsize::new(capacity).unwrap()).unwrap()
}

fn snapshot(last: u64, missed: u64) -> Option<Update<Last>> {
    let state = Arc::new(Last(last));
    Some(Update::Snapshot { state, missed })
}

fn event(number: u64) -> Option<Update<Last>> {
    Some(Update::Event(number))
}

/// Takes one update. Bounded: with nothing to wake it, a test on a paused clock would park for ever.
async fn next<S: State>(subscription: &mut Subscription<S>) -> Option<Update<S>> {
    let update = timeout(LIMIT, subscription.next()).await;
    update.expect("no update, and no end either")
}

/// Takes one update; panics if it does not follow `last`, the number of the last event accounted
/// for. False at the end.
async fn follow(subscription: &mut Subscription<Last>, last: &mut u64) -> bool {
    match next(subscription).await {
        Some(Update::Event(number)) => {
            assert_eq!(number, *last + 1, "a gap or a double");
            *last = number;
        }
        Some(Update::Snapshot { state, missed }) => {
            assert_eq!(state.0, *last + missed, "missed events are miscounted");
            *last = state.0;
        }
        None => return false,
    }
    true
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_starts_from_the_state_and_gets_every_event_after_it() {
    let bus = bus(8);
    let mut early = bus.subscribe();
    bus.publish(1);
    bus.publish(2);
    let mut late = bus.subscribe();
    bus.publish(3);
    for expected in [snapshot(0, 0), event(1), event(2), event(3)] {
        assert_eq!(next(&mut early).await, expected);
    }
    for expected in [snapshot(2, 0), event(3)] {
        assert_eq!(next(&mut late).await, expected);
    }
    timeout(LIMIT, late.next()).await.expect_err("no more yet");
}

#[tokio::test(start_paused = true)]
async fn a_lagging_subscriber_is_told_what_it_missed_and_goes_on_from_the_state_of_now() {
    let bus = bus(4);
    let mut slow = bus.subscribe();
    assert_eq!(next(&mut slow).await, snapshot(0, 0));
    bus.publish(1);
    assert_eq!(next(&mut slow).await, event(1));
    for number in 2..=11 {
        bus.publish(number);
    }
    // The channel has lost 2 to 7. It still holds 8 to 11, which the state has seen too.
    assert_eq!(next(&mut slow).await, snapshot(11, 10));
    bus.publish(12);
    assert_eq!(next(&mut slow).await, event(12));
}

#[tokio::test(start_paused = true)]
async fn the_capacity_is_rounded_up_to_a_power_of_two() {
    for (capacity, kept) in [(1, 1), (3, 4), (4, 4), (5, 8)] {
        let bus = bus(capacity);
        let (mut in_time, mut too_late) = (bus.subscribe(), bus.subscribe());
        next(&mut in_time).await;
        next(&mut too_late).await;
        for number in 1..=kept {
            bus.publish(number);
        }
        assert_eq!(next(&mut in_time).await, event(1), "capacity {capacity}");
        bus.publish(kept + 1);
        assert_eq!(next(&mut too_late).await, snapshot(kept + 1, kept + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_holds_up_nobody() {
    let (bus, started) = (bus(4), Instant::now());
    let _never_reads = bus.subscribe();
    let mut prompt = bus.subscribe();
    assert_eq!(next(&mut prompt).await, snapshot(0, 0));
    for number in 1..=1_000 {
        bus.publish(number);
        assert_eq!(next(&mut prompt).await, event(number));
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn without_a_subscriber_events_still_change_the_state() {
    let bus = bus(2);
    for number in 1..=5 {
        bus.publish(number);
    }
    assert_eq!(next(&mut bus.subscribe()).await, snapshot(5, 0));
    bus.publish(6); // that subscriber is gone again
    assert_eq!(next(&mut bus.subscribe()).await, snapshot(6, 0));
}

#[tokio::test(start_paused = true)]
async fn the_end_comes_after_the_last_event_or_the_last_state_and_lagging_is_not_the_end() {
    let bus = bus(2);
    let (mut prompt, mut slow) = (bus.subscribe(), bus.subscribe());
    next(&mut prompt).await;
    next(&mut slow).await;
    bus.publish(1);
    assert_eq!(next(&mut prompt).await, event(1));
    bus.publish(2);
    bus.publish(3);
    drop(bus);
    for expected in [event(2), event(3), None, None] {
        assert_eq!(next(&mut prompt).await, expected);
    }
    for expected in [snapshot(3, 3), None, None] {
        assert_eq!(next(&mut slow).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_holds_the_bus_waits_for_ever() {
    let bus = bus(2);
    let kept = bus.clone();
    let mut subscription = bus.subscribe();
    next(&mut subscription).await;
    drop(bus);
    timeout(LIMIT, subscription.next())
        .await
        .expect_err("the bus is still open");
    drop(kept);
    assert_eq!(next(&mut subscription).await, None);
}

/// The race that the lock is for, on real threads: one publishes without a pause while others
/// subscribe, fall behind and catch up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_missed_or_doubled_between_a_snapshot_and_the_next_event() {
    let (bus, stop) = (bus(8), Arc::new(AtomicBool::new(false)));
    let publisher = std::thread::spawn({
        let (bus, stop) = (bus.clone(), Arc::clone(&stop));
        move || {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                bus.publish(number);
            }
            number
        }
    });
    let mut caught_up = 0;
    for _ in 0..3_000 {
        let mut subscription = bus.subscribe();
        let Some(Update::Snapshot { state, missed: 0 }) = next(&mut subscription).await else {
            panic!("the state comes first");
        };
        let mut last = state.0;
        for _ in 0..20 {
            let before = last;
            assert!(
                follow(&mut subscription, &mut last).await,
                "the bus is open"
            );
            caught_up += u64::from(last > before + 1);
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(publisher.join().unwrap() > 3_000);
    assert!(caught_up > 0, "nobody ever fell behind");
}

#[tokio::test]
async fn publishers_on_several_threads_change_the_state_in_the_order_that_subscribers_see() {
    #[derive(Clone)]
    struct Log(Vec<(u8, u32)>);
    impl State for Log {
        type Event = (u8, u32);
        fn apply(&mut self, event: &(u8, u32)) {
            self.0.push(*event);
        }
    }
    let bus = EventBus::new(Log(Vec::new()), NonZeroUsize::new(200_000).unwrap()).unwrap();
    let mut subscription = bus.subscribe();
    drop(next(&mut subscription).await); // held, it would make the first event copy the state
    let start = Barrier::new(2);
    std::thread::scope(|threads| {
        for publisher in 0..2 {
            let (bus, start) = (&bus, &start);
            threads.spawn(move || {
                start.wait();
                (0..100_000).for_each(|number| bus.publish((publisher, number)));
            });
        }
    });
    let Some(Update::Snapshot { state, .. }) = next(&mut bus.subscribe()).await else {
        panic!("the state comes first");
    };
    for &applied in &state.0 {
        assert!(
            matches!(next(&mut subscription).await, Some(Update::Event(seen)) if seen == applied)
        );
    }
    assert_eq!(state.0.len(), 200_000);
}

#[tokio::test(start_paused = true)]
async fn subscribers_that_catch_up_together_share_one_copy_of_the_state() {
    static COPIES: AtomicUsize = AtomicUsize::new(0);
    struct Large;
    impl Clone for Large {
        fn clone(&self) -> Self {
            COPIES.fetch_add(1, Ordering::Relaxed);
            Self
        }
    }
    impl State for Large {
        type Event = ();
        fn apply(&mut self, (): &()) {}
    }
    let bus = EventBus::new(Large, NonZeroUsize::MIN).unwrap();
    let mut all: Vec<_> = (0..100).map(|_| bus.subscribe()).collect();
    for subscription in &mut all {
        next(subscription).await;
    }
    bus.publish(());
    bus.publish(());
    let mut held = Vec::new();
    for subscription in &mut all {
        held.push(next(subscription).await);
    }
    assert_eq!(COPIES.load(Ordering::Relaxed), 0, "the first were dropped");
    bus.publish(());
    bus.publish(());
    assert_eq!(COPIES.load(Ordering::Relaxed), 1, "a hundred are held");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_apply_reaches_its_publisher_only() {
    let bus = bus(4);
    let mut subscription = bus.subscribe();
    bus.publish(1);
    let publisher = bus.clone();
    let ended = tokio::spawn(async move { publisher.publish(u64::MAX) }).await;
    assert!(ended.unwrap_err().is_panic());
    bus.publish(2);
    for expected in [snapshot(0, 0), event(1), event(2)] {
        assert_eq!(next(&mut subscription).await, expected);
    }
    assert_eq!(next(&mut bus.subscribe()).await, snapshot(2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_capacity_that_would_panic_or_fill_the_memory_is_refused() {
    for too_large in [MAX_CAPACITY + 1, usize::MAX >> 1, usize::MAX] {
        let too_large = NonZeroUsize::new(too_large).unwrap();
        let refused = EventBus::new(Last(0), too_large).unwrap_err();
        assert_eq!(refused, TooLarge(too_large));
        assert!(refused.to_string().ends_with("above the limit of 1048576"));
    }
    let bus = bus(MAX_CAPACITY);
    let mut subscription = bus.subscribe();
    next(&mut subscription).await;
    bus.publish(1);
    assert_eq!(next(&mut subscription).await, event(1));
    // What it is for: tokio's own limits.
    for (capacity, message) in [
        (usize::MAX, "exceeded `usize::MAX / 2`"),
        (usize::MAX >> 1, "capacity overflow"),
    ] {
        let panic = catch_unwind(|| broadcast::Sender::<u8>::new(capacity)).unwrap_err();
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        assert!(text.as_ref().unwrap().contains(message), "{text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_kept_until_the_slowest_subscriber_has_read_them() {
    #[derive(Clone)]
    struct Nothing;
    impl State for Nothing {
        type Event = Arc<()>;
        fn apply(&mut self, _: &Arc<()>) {}
    }
    let bus = EventBus::new(Nothing, NonZeroUsize::new(3).unwrap()).unwrap();
    let (mut prompt, slow) = (bus.subscribe(), bus.subscribe());
    next(&mut prompt).await;
    let event = Arc::new(());
    for _ in 0..10 {
        bus.publish(Arc::clone(&event));
        next(&mut prompt).await;
    }
    assert_eq!(Arc::strong_count(&event), 1 + 4);
    drop(slow);
    assert_eq!(Arc::strong_count(&event), 1);
}

#[tokio::test(start_paused = true)]
async fn each_subscriber_clones_each_event() {
    static COPIES: AtomicUsize = AtomicUsize::new(0);
    struct Picture;
    impl Clone for Picture {
        fn clone(&self) -> Self {
            COPIES.fetch_add(1, Ordering::Relaxed);
            Self
        }
    }
    #[derive(Clone)]
    struct Nothing;
    impl State for Nothing {
        type Event = Picture;
        fn apply(&mut self, _: &Picture) {}
    }
    let bus = EventBus::new(Nothing, NonZeroUsize::MIN).unwrap();
    let mut all: Vec<_> = (0..3).map(|_| bus.subscribe()).collect();
    bus.publish(Picture);
    for subscription in &mut all {
        assert!(matches!(
            next(subscription).await,
            Some(Update::Snapshot { .. })
        ));
        assert!(matches!(
            next(subscription).await,
            Some(Update::Event(Picture))
        ));
    }
    assert_eq!(COPIES.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_bare_receiver_read_with_while_let_ok_stops_at_the_first_lag() {
    let (sender, mut receiver) = broadcast::channel(4);
    for number in 1..=10 {
        sender.send(number).unwrap();
    }
    let mut passes_over = receiver.resubscribe();
    let mut handled = 0;
    while let Ok(_event) = receiver.recv().await {
        handled += 1;
    }
    assert_eq!(
        handled, 0,
        "ended with four events waiting, and the channel open"
    );
    assert_eq!(receiver.try_recv(), Ok(7));

    for number in 1..=10 {
        sender.send(number).unwrap();
    }
    drop(sender);
    let mut sum = 0;
    loop {
        match passes_over.recv().await {
            Ok(number) => sum += number,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => break,
        }
    }
    assert_eq!(sum, 7 + 8 + 9 + 10, "1 to 6 are missing, and nobody knows");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_before_subscribing_misses_an_event_and_one_after_it_counts_it_twice() {
    let count_both = async |subscribe_first: bool| {
        let count = Mutex::new(0);
        let (sender, _) = broadcast::channel(4);
        let publish = || {
            *count.lock().unwrap() += 1;
            drop(sender.send(1));
        };
        let (mut receiver, mut known);
        if subscribe_first {
            receiver = sender.subscribe();
            publish();
            known = *count.lock().unwrap();
        } else {
            known = *count.lock().unwrap();
            publish();
            receiver = sender.subscribe();
        }
        while let Ok(one) = receiver.try_recv() {
            known += one;
        }
        known
    };
    assert_eq!(count_both(false).await, 0, "one was published");
    assert_eq!(count_both(true).await, 2, "one was published");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_has_taken_no_update() {
    let points = every_await_point(
        LIMIT,
        async || {
            let bus = bus(2);
            let subscription = bus.subscribe();
            tokio::spawn(async move {
                // Some in time, some while the subscriber is behind, some after that.
                for burst in [1..=1, 2..=3, 4..=9, 10..=10] {
                    sleep(PAUSE).await;
                    burst.for_each(|number| bus.publish(number));
                }
            });
            (subscription, 0)
        },
        async |(subscription, last)| while follow(subscription, last).await {},
        async |(mut subscription, mut last), _| {
            while follow(&mut subscription, &mut last).await {}
            assert_eq!(last, 10, "an update is lost");
        },
    )
    .await;
    assert!(points.unwrap() >= 8);
}
