//! What the shedding queue promises, and how load is shed without anybody knowing.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::poll;
use structured::load_shedding::{
    Consumer, Counts, NotQueued, Producer, Shed, WhenFull, shedding_queue,
};
use testing::every_await_point::{Outcome as Round, every_await_point};
use tokio::runtime::Builder;
use tokio::sync::{broadcast, mpsc};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const ALL: [WhenFull; 4] = [
    WhenFull::Wait(SECOND),
    WhenFull::Reject,
    WhenFull::DropOldest,
    WhenFull::DropNewest,
];

type ShedItems = Arc<Mutex<Vec<(u32, Shed)>>>;

fn n(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

/// A queue, and what it has shed.
fn queue(capacity: usize, when_full: WhenFull) -> (Producer<u32>, Consumer<u32>, ShedItems) {
    let shed = ShedItems::default();
    let to = Arc::clone(&shed);
    let (producer, consumer) = shedding_queue(n(capacity), when_full, move |item, why| {
        let mut shed = to.lock().unwrap_or_else(PoisonError::into_inner);
        shed.push((item, why));
    });
    (producer, consumer, shed)
}

fn read(shed: &ShedItems) -> Vec<(u32, Shed)> {
    shed.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

async fn drain(consumer: &mut Consumer<u32>) -> Vec<u32> {
    let mut items = Vec::new();
    while let Some(item) = consumer.next().await {
        items.push(item);
    }
    items
}

// The four policies

#[test]
fn both_ends_are_shown_by_their_policy_and_their_counts() {
    let (producer, consumer, _) = queue(3, WhenFull::Reject);
    producer.try_push(1).unwrap();
    let counts = format!("when_full: Reject, counts: {:?}, ..", producer.counts());
    assert!(counts.contains("waiting: 1"), "{counts}");
    for shown in [format!("{producer:?}"), format!("{consumer:?}")] {
        assert!(shown.contains(&counts), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_room_no_policy_sheds_anything() {
    for when_full in ALL {
        let (producer, mut consumer, shed) = queue(3, when_full);
        for round in 0..10 {
            for item in 0..3 {
                match round % 2 {
                    0 => producer.push(item).await.unwrap(),
                    _ => producer.try_push(item).unwrap(),
                }
            }
            for item in 0..3 {
                assert_eq!(consumer.next().await, Some(item), "in order");
            }
        }
        let expected = Counts {
            queued: 30,
            ..Counts::default()
        };
        assert_eq!((producer.counts(), read(&shed)), (expected, vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn wait_waits_for_room_until_its_limit_and_gives_the_item_back() {
    let (producer, mut consumer, shed) = queue(1, WhenFull::Wait(SECOND));
    producer.push(0).await.unwrap();
    let started = Instant::now();
    assert_eq!(producer.push(1).await, Err(NotQueued::TimedOut(1)));
    assert_eq!(started.elapsed(), SECOND);

    let reader = tokio::spawn(async move {
        sleep(SECOND / 2).await;
        (consumer.next().await, consumer)
    });
    assert_eq!(producer.push(2).await, Ok(()));
    assert_eq!(started.elapsed(), SECOND + SECOND / 2);
    let (item, mut consumer) = reader.await.unwrap();
    assert_eq!((item, consumer.next().await), (Some(0), Some(2)));
    let expected = Counts {
        queued: 2,
        timed_out: 1,
        ..Counts::default()
    };
    assert_eq!((consumer.counts(), read(&shed)), (expected, vec![]));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_get_room_first_come_first_served() {
    let (producer, mut consumer, _) = queue(1, WhenFull::Wait(LIMIT));
    producer.push(0).await.unwrap();
    for item in 1..5 {
        let producer = producer.clone();
        tokio::spawn(async move { producer.push(item).await.unwrap() });
        yield_now().await;
    }
    assert_eq!(consumer.next().await, Some(0));
    let jumps_the_queue = producer.try_push(9);
    assert_eq!(
        jumps_the_queue,
        Err(NotQueued::Rejected(9)),
        "the place is promised"
    );
    drop(producer);
    assert_eq!(drain(&mut consumer).await, [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn reject_gives_the_item_back_at_once() {
    let (producer, mut consumer, shed) = queue(2, WhenFull::Reject);
    let started = Instant::now();
    for item in 0..2 {
        producer.push(item).await.unwrap();
    }
    assert_eq!(producer.push(2).await, Err(NotQueued::Rejected(2)));
    assert_eq!(producer.try_push(3), Err(NotQueued::Rejected(3)));
    assert_eq!(started.elapsed(), Duration::ZERO);
    let expected = Counts {
        queued: 2,
        waiting: 2,
        rejected: 2,
        ..Counts::default()
    };
    assert_eq!((producer.counts(), read(&shed)), (expected, vec![]));
    drop(producer);
    assert_eq!(drain(&mut consumer).await, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn drop_oldest_keeps_the_latest_and_tells_which_it_dropped() {
    let (producer, mut consumer, shed) = queue(3, WhenFull::DropOldest);
    for item in 0..10 {
        producer.push(item).await.unwrap();
    }
    let expected = Counts {
        queued: 10,
        waiting: 3,
        dropped_oldest: 7,
        ..Counts::default()
    };
    assert_eq!(producer.counts(), expected);
    let oldest = |item| (item, Shed::Oldest);
    assert_eq!(read(&shed), [0, 1, 2, 3, 4, 5, 6].map(oldest));
    drop(producer);
    assert_eq!(drain(&mut consumer).await, [7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn drop_newest_keeps_the_first_and_tells_which_it_dropped() {
    let (producer, mut consumer, shed) = queue(3, WhenFull::DropNewest);
    for item in 0..5 {
        producer.push(item).await.unwrap();
    }
    let expected = Counts {
        queued: 3,
        waiting: 3,
        dropped_newest: 2,
        ..Counts::default()
    };
    assert_eq!(producer.counts(), expected);
    assert_eq!(read(&shed), [(3, Shed::Newest), (4, Shed::Newest)]);
    drop(producer);
    assert_eq!(drain(&mut consumer).await, [0, 1, 2]);
}

#[test]
fn try_push_needs_no_runtime_and_never_waits() {
    let (producer, consumer, _) = queue(1, WhenFull::Wait(LIMIT));
    assert_eq!(producer.try_push(0), Ok(()));
    assert_eq!(producer.try_push(1), Err(NotQueued::Rejected(1)));
    let expected = Counts {
        queued: 1,
        waiting: 1,
        rejected: 1,
        ..Counts::default()
    };
    assert_eq!(consumer.counts(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_enormous_capacity_is_no_panic() {
    for when_full in ALL {
        let (producer, mut consumer, _) = queue(usize::MAX, when_full);
        producer.push(7).await.unwrap();
        assert_eq!(consumer.next().await, Some(7));
    }
}

// Both ends

#[tokio::test(start_paused = true)]
async fn a_consumer_that_waits_is_woken_by_a_push_and_by_the_end() {
    for when_full in ALL {
        let (producer, mut consumer, _) = queue(1, when_full);
        let started = Instant::now();
        let reader = tokio::spawn(async move {
            let item = consumer.next().await;
            let at = started.elapsed();
            (item, at, consumer.next().await, started.elapsed())
        });
        sleep(SECOND).await;
        producer.push(7).await.unwrap();
        sleep(SECOND).await;
        drop(producer);
        assert_eq!(reader.await.unwrap(), (Some(7), SECOND, None, 2 * SECOND));
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_last_producer_closes_the_queue() {
    let (producer, mut consumer, _) = queue(2, WhenFull::Reject);
    let other = producer.clone();
    producer.push(0).await.unwrap();
    drop(producer);
    other.push(1).await.unwrap();
    assert_eq!(consumer.next().await, Some(0));
    drop(other);
    assert_eq!(drain(&mut consumer).await, [1]);
    assert_eq!(consumer.next().await, None, "it stays closed");
}

#[tokio::test(start_paused = true)]
async fn closing_refuses_those_who_push_and_those_who_wait_and_drains_the_rest() {
    for when_full in ALL {
        let (producer, mut consumer, shed) = queue(1, when_full);
        producer.push(0).await.unwrap();
        let waiting = tokio::spawn({
            let producer = producer.clone();
            async move { producer.push(1).await }
        });
        sleep(SECOND / 2).await;
        let closed_at = Instant::now();
        consumer.close();
        assert_eq!(producer.push(2).await, Err(NotQueued::Closed(2)));
        assert_eq!(producer.try_push(3), Err(NotQueued::Closed(3)));
        let (waited, left) = match when_full {
            WhenFull::Wait(_) => (Err(NotQueued::Closed(1)), 0),
            WhenFull::Reject => (Err(NotQueued::Rejected(1)), 0),
            WhenFull::DropOldest => (Ok(()), 1),
            WhenFull::DropNewest => (Ok(()), 0),
        };
        assert_eq!(waiting.await.unwrap(), waited);
        assert_eq!(drain(&mut consumer).await, [left]);
        assert_eq!(closed_at.elapsed(), Duration::ZERO);
        assert_eq!(read(&shed).len(), usize::from(waited.is_ok()));
    }
}

#[tokio::test(start_paused = true)]
async fn closing_wakes_a_consumer_that_waits_elsewhere() {
    let (producer, consumer, _) = queue(1, WhenFull::Reject);
    let consumer = Arc::new(tokio::sync::Mutex::new(consumer));
    let mut next = Box::pin(async { consumer.lock().await.next().await });
    assert!(poll!(next.as_mut()).is_pending());
    drop(producer);
    assert_eq!(timeout(LIMIT, next).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_consumer_leaves_its_items_to_the_callback_and_refuses_more() {
    for when_full in ALL {
        let (producer, consumer, shed) = queue(2, when_full);
        producer.push(0).await.unwrap();
        producer.push(1).await.unwrap();
        drop(consumer);
        assert_eq!(read(&shed), [(0, Shed::Unread), (1, Shed::Unread)]);
        assert_eq!(producer.push(2).await, Err(NotQueued::Closed(2)));
        let expected = Counts {
            queued: 2,
            unread: 2,
            ..Counts::default()
        };
        assert_eq!(producer.counts(), expected);
    }
}

#[test]
fn a_producer_that_never_has_to_wait_lets_the_consumer_run() {
    for when_full in ALL {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(async {
            let (producer, mut consumer, _) = queue(1_000_000, when_full);
            let reader = tokio::spawn(async move { while consumer.next().await.is_some() {} });
            let pushing = tokio::spawn(async move {
                let mut longest = 0;
                for item in 0..10_000 {
                    producer.push(item).await.unwrap();
                    longest = longest.max(producer.counts().waiting);
                }
                longest
            });
            let longest = pushing.await.unwrap();
            assert!(
                longest < 1_000,
                "{when_full:?}: {longest} before the consumer had its turn"
            );
            reader.await.unwrap();
        });
    }
}

#[tokio::test]
async fn a_consumer_that_never_has_to_wait_lets_others_run() {
    let (producer, mut consumer, _) = queue(100_000, WhenFull::Reject);
    for item in 0..100_000 {
        producer.try_push(item).unwrap();
    }
    let count = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&count);
    let reader = tokio::spawn(async move {
        while consumer.next().await.is_some() {
            counts.fetch_add(1, Ordering::SeqCst);
        }
    });
    yield_now().await;
    let read = count.load(Ordering::SeqCst);
    assert!(
        (1..1_000).contains(&read),
        "{read} before another task had its turn"
    );
    reader.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_each_item_is_received_given_back_or_shed() {
    for round in 0..40 {
        for when_full in ALL {
            let (producer, mut consumer, shed) = queue(round % 3 + 1, when_full);
            let producers: Vec<_> = (0..4)
                .map(|part| {
                    let producer = producer.clone();
                    tokio::spawn(async move {
                        let mut refused = Vec::new();
                        for item in part * 50..(part + 1) * 50 {
                            match producer.push(item).await {
                                Ok(()) => {}
                                Err(NotQueued::Rejected(item) | NotQueued::Closed(item)) => {
                                    refused.push(item);
                                }
                                Err(NotQueued::TimedOut(_)) => panic!("a second has not passed"),
                            }
                        }
                        refused
                    })
                })
                .collect();
            let reader = tokio::spawn(async move {
                let mut items = Vec::new();
                for _ in 0..20 + round {
                    items.extend(consumer.next().await);
                }
                items // and drops the consumer
            });
            drop(producer);
            let mut all = timeout(LIMIT, reader).await.unwrap().unwrap();
            for producer in producers {
                all.extend(timeout(LIMIT, producer).await.unwrap().unwrap());
            }
            all.extend(read(&shed).into_iter().map(|(item, _)| item));
            all.sort_unstable();
            assert_eq!(all, Vec::from_iter(0..200), "{when_full:?}, round {round}");
        }
    }
}

// Cancel safety

#[tokio::test(start_paused = true)]
async fn a_dropped_push_has_queued_nothing() {
    for when_full in ALL {
        let points = every_await_point(
            LIMIT,
            async || {
                let (producer, mut consumer, shed) = queue(1, when_full);
                producer.push(0).await.unwrap();
                let reader = tokio::spawn(async move {
                    sleep(SECOND / 2).await;
                    drain(&mut consumer).await
                });
                (producer, reader, shed, 1)
            },
            async |(producer, _, _, pushed)| {
                for item in 1..3 {
                    producer.push(item).await.unwrap_or_default();
                    *pushed += 1;
                }
            },
            async |(producer, reader, shed, pushed), _| {
                let counts = producer.counts();
                let told = counts.queued + counts.rejected + counts.dropped_newest;
                assert_eq!(told, pushed, "a push that did not happen is counted");
                drop(producer);
                let received = reader.await.unwrap().len() as u64;
                assert_eq!(
                    received + read(&shed).len() as u64 + counts.rejected,
                    pushed
                );
            },
        )
        .await;
        assert!(points.unwrap() >= 2, "{when_full:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_that_is_dropped_after_it_got_its_place_passes_it_on() {
    let (producer, mut consumer, _) = queue(1, WhenFull::Wait(LIMIT));
    producer.push(0).await.unwrap();
    let mut first = Box::pin(producer.push(1));
    let mut second = Box::pin(producer.push(2));
    assert!(poll!(first.as_mut()).is_pending() && poll!(second.as_mut()).is_pending());
    assert_eq!(consumer.next().await, Some(0)); // the place is the first one's
    drop(first);
    assert_eq!(timeout(SECOND, second).await, Ok(Ok(())));
    assert_eq!(consumer.next().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_has_taken_no_item() {
    for when_full in ALL {
        let points = every_await_point(
            LIMIT,
            async || {
                let (producer, consumer, _) = queue(2, when_full);
                tokio::spawn(async move {
                    for item in 0..4 {
                        producer.push(item).await.unwrap();
                        sleep(SECOND).await;
                    }
                });
                (consumer, Vec::new())
            },
            async |(consumer, items)| {
                while let Some(item) = consumer.next().await {
                    items.push(item);
                }
            },
            async |(mut consumer, mut items), round| {
                if let Round::Completed(()) = round {
                    assert_eq!(consumer.next().await, None);
                }
                items.extend(drain(&mut consumer).await);
                assert_eq!(items, [0, 1, 2, 3], "an item is lost");
            },
        )
        .await;
        assert!(points.unwrap() >= 5, "{when_full:?}");
    }
}

// Harm

#[tokio::test(start_paused = true)]
async fn harm_try_send_ok_sheds_load_and_nobody_knows() {
    let (sender, mut receiver) = mpsc::channel(2);
    for item in 0..10 {
        sender.try_send(item).ok();
    }
    drop(sender);
    let mut items = Vec::new();
    while let Some(item) = receiver.recv().await {
        items.push(item);
    }
    assert_eq!(items, [0, 1], "and 8 are gone without a trace");
}

#[tokio::test(start_paused = true)]
async fn harm_a_thousand_who_wait_hold_a_thousand_items() {
    for (when_full, expected) in [(WhenFull::Wait(LIMIT), 1_000), (WhenFull::Reject, 1)] {
        let alive = Arc::new(());
        let (producer, consumer) = shedding_queue(n(1), when_full, |_, _| {});
        for _ in 0..1_000 {
            let (producer, item) = (producer.clone(), Arc::clone(&alive));
            tokio::spawn(async move { producer.push(item).await });
        }
        sleep(SECOND).await;
        assert_eq!(
            Arc::strong_count(&alive) - 1,
            expected,
            "{when_full:?}, capacity 1"
        );
        drop(consumer);
    }
}

#[tokio::test(start_paused = true)]
async fn harm_a_long_queue_makes_every_item_late() {
    for (capacity, late) in [(100, 10 * SECOND), (2, SECOND / 5)] {
        let (producer, mut consumer) =
            shedding_queue(n(capacity), WhenFull::DropNewest, |_: Instant, _| {});
        for _ in 0..100 {
            producer.push(Instant::now()).await.unwrap();
        }
        drop(producer);
        let mut age = Duration::ZERO;
        while let Some(pushed) = consumer.next().await {
            sleep(SECOND / 10).await;
            age = pushed.elapsed();
        }
        assert_eq!(age, late, "the last one's, with {capacity} places");
    }
}

#[tokio::test]
async fn harm_a_broadcast_channel_tells_how_many_it_dropped_and_not_which() {
    let (sender, mut receiver) = broadcast::channel(2);
    for item in 0..10 {
        sender.send(item).unwrap();
    }
    let lagged = broadcast::error::RecvError::Lagged(8);
    assert_eq!(receiver.recv().await, Err(lagged));
    assert_eq!(
        (receiver.recv().await, receiver.recv().await),
        (Ok(8), Ok(9))
    );
}

#[test]
fn harm_a_callback_that_pushes_what_was_shed_calls_itself() {
    let own = Arc::new(OnceLock::<Producer<u32>>::new());
    let depth = Arc::new(AtomicUsize::new(0));
    let (of_callback, deeper) = (Arc::clone(&own), Arc::clone(&depth));
    let (producer, _consumer) = shedding_queue(n(1), WhenFull::DropOldest, move |item, why| {
        let too_deep = deeper.fetch_add(1, Ordering::SeqCst) == 99;
        if let Some(producer) = of_callback
            .get()
            .filter(|_| why == Shed::Oldest && !too_deep)
        {
            producer.try_push(item).unwrap();
        }
    });
    drop(own.set(producer.clone()));
    producer.try_push(0).unwrap();
    producer.try_push(1).unwrap();
    assert_eq!(
        depth.load(Ordering::SeqCst),
        100,
        "one push, and only this test ends it"
    );
}

#[test]
fn the_callback_may_look_at_the_queue() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let (seen, sees) = std::sync::mpsc::sync_channel(2);
        let own = Arc::new(OnceLock::<Producer<u32>>::new());
        let of_callback = Arc::clone(&own);
        let (producer, consumer) = shedding_queue(n(1), when_full, move |item, why| {
            let counts = of_callback.get().map(Producer::counts).unwrap();
            seen.send((item, why, counts.waiting)).unwrap();
        });
        drop(own.set(producer.clone()));
        // In a thread of its own: called under the lock, it would stand still for ever.
        std::thread::spawn(move || {
            producer.try_push(0).unwrap();
            producer.try_push(1).unwrap();
            drop(consumer);
        });
        let (first, second) = match when_full {
            WhenFull::DropOldest => ((0, Shed::Oldest, 1), (1, Shed::Unread, 0)),
            _ => ((1, Shed::Newest, 1), (0, Shed::Unread, 0)),
        };
        assert_eq!(sees.recv_timeout(LIMIT), Ok(first));
        assert_eq!(sees.recv_timeout(LIMIT), Ok(second));
    }
}

#[tokio::test]
async fn a_callback_that_panics_leaves_the_queue_as_it_should_be() {
    let (producer, mut consumer) = shedding_queue(n(1), WhenFull::DropOldest, |item: u32, _| {
        assert!(item != 0, "cannot log {item}");
    });
    producer.push(0).await.unwrap();
    let other = producer.clone();
    let pushing = tokio::spawn(async move { other.push(1).await });
    assert!(pushing.await.unwrap_err().is_panic());
    let expected = Counts {
        queued: 2,
        waiting: 1,
        dropped_oldest: 1,
        ..Counts::default()
    };
    assert_eq!(producer.counts(), expected);
    assert_eq!(consumer.next().await, Some(1));
}
