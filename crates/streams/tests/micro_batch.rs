//! What the micro-batch promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt, stream};
use streams::from_iter_and_interval::cooperative;
use streams::micro_batch::{Limits, MicroBatch, micro_batch};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::select;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, advance, sleep, sleep_until};
use tokio_stream::adapters::ChunksTimeout;
use tokio_stream::wrappers::ReceiverStream;

const LIMIT: Duration = Duration::from_secs(60);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn limits(items: usize, weight: usize, wait: u64) -> Limits {
    Limits {
        items: NonZeroUsize::new(items).unwrap(),
        weight: NonZeroUsize::new(weight).unwrap(),
        wait: ms(wait),
    }
}

/// Up to so many items, of no weight.
fn up_to(items: usize, wait: u64) -> Limits {
    limits(items, usize::MAX, wait)
}

/// Each item a number of milliseconds after now; the end comes at `end`.
fn at(items: &[u64], end: u64) -> impl Stream<Item = Result<u64, Infallible>> + Unpin + use<> {
    let started = Instant::now();
    let items: Vec<_> = items.iter().copied().map(Some).chain([None]).collect();
    Box::pin(stream::iter(items).filter_map(move |item| async move {
        sleep_until(started + ms(item.unwrap_or(end))).await;
        item.map(Ok)
    }))
}

/// Tokio-stream's, whose `StreamExt` has the names of futures' and cannot be in scope beside it.
fn chunks_timeout<S: Stream>(items: S, most: usize, wait: Duration) -> ChunksTimeout<S> {
    tokio_stream::StreamExt::chunks_timeout(items, most, wait)
}

/// Every batch, and how many milliseconds after now it came.
async fn with_instants<T, E>(
    mut batches: impl Stream<Item = Result<Vec<T>, E>> + Unpin,
) -> Vec<(Result<Vec<T>, E>, u128)> {
    let started = Instant::now();
    let mut all = Vec::new();
    while let Some(batch) = batches.next().await {
        all.push((batch, started.elapsed().as_millis()));
    }
    all
}

fn good<const N: usize>(
    expected: [(&[u64], u128); N],
) -> Vec<(Result<Vec<u64>, Infallible>, u128)> {
    let expected = expected.into_iter();
    expected
        .map(|(items, at)| (Ok(items.to_vec()), at))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_comes_as_soon_as_it_is_full() {
    let batches = micro_batch(at(&[0, 10, 20, 30, 40], 45), up_to(2, 100), |_| 0);
    let expected = good([(&[0, 10], 10), (&[20, 30], 30), (&[40], 45)]);
    assert_eq!(with_instants(batches).await, expected);
}

#[tokio::test(start_paused = true)]
async fn time_counts_from_the_first_item_of_the_batch_and_not_from_the_last() {
    // The items come faster than the wait ends. The pause after 275 is the wait of no batch.
    let items = [50, 125, 200, 275, 900];
    let batches = micro_batch(at(&items, 2_000), up_to(10, 100), |_| 0);
    let expected = good([(&[50, 125], 150), (&[200, 275], 300), (&[900], 1_000)]);
    assert_eq!(with_instants(batches).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_ends_its_wait_and_the_next_has_its_own() {
    let items = [0, 50, 70, 180];
    let batches = micro_batch(at(&items, 500), up_to(2, 100), |_| 0);
    // Were the first wait still counted, or that of the item at 50, the second would come at 100 or 150.
    let expected = good([(&[0, 50], 50), (&[70], 170), (&[180], 280)]);
    assert_eq!(with_instants(batches).await, expected);
}

#[tokio::test(start_paused = true)]
async fn the_last_partial_batch_comes_with_the_end_and_the_end_is_repeated() {
    let mut batches = micro_batch(at(&[10, 20], 25), up_to(10, 100), |_| 0);
    let expected = good([(&[10, 20], 25)]);
    assert_eq!(with_instants(&mut batches).await, expected);
    assert_eq!(batches.next().await, None);
    let empty = micro_batch(at(&[], 25), up_to(10, 100), |_| 0);
    assert_eq!(with_instants(empty).await, [], "a batch is never empty");
}

#[tokio::test(start_paused = true)]
async fn a_batch_never_weighs_more_than_allowed_unless_its_only_item_does() {
    let items = stream::iter([4, 4, 4, 10, 3, 7, 25, 1, 0, 9, 0].map(Ok::<usize, Infallible>));
    let batches = micro_batch(items, limits(10, 10, 100), |weight| *weight);
    let batches: Vec<_> = batches.map(Result::unwrap).collect().await;
    // A batch of exactly the weight is full, so the last item of no weight finds none.
    let expected: [&[usize]; 7] = [&[4, 4], &[4], &[10], &[3, 7], &[25], &[1, 0, 9], &[0]];
    assert_eq!(batches, expected);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_begins_the_next_batch_waits_from_when_it_came() {
    let items = [4, 40, 70];
    let weigh = |item: &u64| if *item == 40 { 10 } else { 4 };
    let batches = micro_batch(at(&items, 500), limits(10, 11, 100), weigh);
    // 40 is too heavy to join 4, and 70 to join 40.
    let expected = good([(&[4], 40), (&[40], 70), (&[70], 170)]);
    assert_eq!(with_instants(batches).await, expected);
}

#[tokio::test(start_paused = true)]
async fn weights_that_overflow_are_no_panic_and_end_the_batch() {
    for (most, expected) in [
        (usize::MAX - 1, vec![vec![1], vec![2], vec![3]]),
        (usize::MAX, vec![vec![1, 2], vec![3]]),
    ] {
        let items = stream::iter([1, 2, 3].map(Ok::<u32, Infallible>));
        let batches = micro_batch(items, limits(10, most, 100), |_| usize::MAX - 2);
        let batches: Vec<_> = batches.map(Result::unwrap).collect().await;
        assert_eq!(batches, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_comes_after_the_batch_before_it_and_at_once() {
    let started = Instant::now();
    let items = [
        (10, Ok(1)),
        (20, Err("bad")),
        (30, Err("worse")),
        (40, Ok(2)),
        (50, Ok(3)),
    ];
    let items = stream::iter(items).then(|(at, item)| async move {
        sleep_until(started + ms(at)).await;
        item
    });
    let batches = with_instants(micro_batch(pin!(items), up_to(2, 100), |_| 0)).await;
    let expected = [
        (Ok(vec![1]), 20),
        (Err("bad"), 20),
        (Err("worse"), 30),
        (Ok(vec![2, 3]), 50),
    ];
    assert_eq!(batches, expected);
}

#[tokio::test(start_paused = true)]
async fn harm_a_chunk_collected_into_a_result_loses_the_items_around_an_error() {
    let items = || stream::iter([Ok(1), Ok(2), Err("bad"), Ok(3)]);
    let chunks = chunks_timeout(items(), 10, ms(100));
    let chunks: Vec<Result<Vec<_>, _>> = chunks
        .map(|chunk| chunk.into_iter().collect())
        .collect()
        .await;
    assert_eq!(chunks, [Err("bad")], "1, 2 and 3 are gone");

    let batches: Vec<_> = micro_batch(items(), up_to(10, 100), |_| 0).collect().await;
    assert_eq!(batches, [Ok(vec![1, 2]), Err("bad"), Ok(vec![3])]);
}

#[tokio::test(start_paused = true)]
async fn harm_chunks_timeout_makes_room_for_the_largest_chunk_each_time() {
    let items = at(&[0, 500], 1_000);
    let mut chunks = pin!(chunks_timeout(items, 10_000, ms(100)));
    for _ in 0..2 {
        let chunk = chunks.next().await.unwrap();
        assert_eq!((chunk.len(), chunk.capacity()), (1, 10_000));
    }
    let mut batches = micro_batch(at(&[0, 500], 1_000), up_to(10_000, 100), |_| 0);
    for _ in 0..2 {
        let batch = batches.next().await.unwrap().unwrap();
        assert!(batch.capacity() < 10, "{}", batch.capacity());
    }
}

#[tokio::test(start_paused = true)]
async fn chunks_timeout_counts_from_the_first_item_too_and_can_give_its_rest_away() {
    let started = Instant::now();
    let items = at(&[50, 125, 200, 275], 280);
    let mut chunks = pin!(chunks_timeout(items, 10, ms(100)));
    let mut all = Vec::new();
    while let Some(chunk) = chunks.next().await {
        all.push((chunk.len(), started.elapsed().as_millis()));
    }
    assert_eq!(all, [(2, 150), (2, 280)]);
    let items = stream::iter([1, 2]).chain(stream::pending());
    let mut chunks = pin!(chunks_timeout(items, 10, ms(100)));
    assert!(chunks.next().now_or_never().is_none());
    assert_eq!(chunks.as_mut().into_remainder(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn harm_a_wait_that_each_item_begins_anew_never_ends_in_a_steady_trickle() {
    let mut items = at(&[0, 75, 150, 225, 300, 375], 400);
    let started = Instant::now();
    let (mut batch, mut flushed) = (0, Vec::new());
    loop {
        select! {
            item = items.next() => match item {
                Some(_) => batch += 1,
                None => break,
            },
            () = sleep(ms(100)), if batch > 0 => {
                flushed.push(started.elapsed());
                batch = 0;
            }
        }
    }
    assert_eq!(
        (batch, flushed),
        (6, vec![]),
        "the first has waited for 400 ms"
    );

    let items = at(&[0, 75, 150, 225, 300, 375], 400);
    let batches = micro_batch(items, up_to(10, 100), |_| 0);
    let expected = good([(&[0, 75], 100), (&[150, 225], 250), (&[300, 375], 400)]);
    assert_eq!(with_instants(batches).await, expected);
}

type Channel = stream::Map<ReceiverStream<u64>, fn(u64) -> Result<u64, Infallible>>;

fn channel(room: usize) -> (mpsc::Sender<u64>, Channel) {
    let (sender, items) = mpsc::channel(room);
    (sender, ReceiverStream::new(items).map(Ok))
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_full_batches_and_holds_the_producer_back() {
    let (sender, items) = channel(20);
    let producer = tokio::spawn(async move {
        let mut sent_at = Vec::new();
        let started = Instant::now();
        for item in 0..40 {
            sender.send(item).await.unwrap();
            sent_at.push(started.elapsed().as_millis());
        }
        sent_at
    });
    // Each batch is overdue when it is asked for, and so is the item that did not fit in the one before.
    let mut batches = micro_batch(items, limits(100, 10, 100), |_| 3);
    let mut sizes = Vec::new();
    while let Some(Ok(batch)) = batches.next().await {
        sizes.push(batch.len());
        sleep(ms(1_000)).await;
    }
    assert_eq!(sizes, [vec![3; 13], vec![1]].concat());
    let sent_at = producer.await.unwrap();
    assert!(
        sent_at.first() < Some(&100) && sent_at.last() >= Some(&1_000),
        "{sent_at:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_never_empty_delays_no_batch_beyond_its_wait_and_a_turn() {
    let (sender, items) = channel(1_000);
    for item in 0..1_000 {
        sender.try_send(item).unwrap();
    }
    // Each time it has taken a hundred items, a millisecond has passed.
    let slow = |item: &u64| {
        if item % 100 == 99 {
            advance(ms(1)).now_or_never();
        }
        0
    };
    let started = Instant::now();
    let mut batches = micro_batch(items, up_to(10_000, 5), slow);
    let first = batches.next().await.unwrap().unwrap();
    // Due after 500. Tokio interrupts the channel every 128 items, and only there time is looked at.
    assert!((500..=500 + 128).contains(&first.len()), "{}", first.len());
    assert!(started.elapsed() <= ms(6), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_never_pending_is_cut_by_the_limits_only_unless_it_is_made_cooperative() {
    let sizes = async |cooperates| {
        let slow = |item: &u64| {
            if item % 100 == 99 {
                advance(ms(1)).now_or_never();
            }
            0
        };
        let items = stream::iter((0..1_000).map(Ok::<u64, Infallible>));
        let items = if cooperates {
            cooperative(items).left_stream()
        } else {
            items.right_stream()
        };
        let batches = micro_batch(items, up_to(800, 5), slow);
        let batches: Vec<_> = batches.map(|batch| batch.unwrap().len()).collect().await;
        batches
    };
    assert_eq!(sizes(false).await, [800, 200]);
    let sizes = sizes(true).await;
    assert!((500..=500 + 128).contains(&sizes[0]), "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_collected_while_the_body_of_the_loop_waits() {
    let (sender, items) = channel(2);
    let mut batches = micro_batch(items, up_to(10, 100), |_| 0);
    for item in 0..2 {
        sender.send(item).await.unwrap();
    }
    sleep(ms(500)).await;
    assert!(sender.try_send(2).is_err(), "they are still in the channel");
    let started = Instant::now();
    let batch = batches.next().await;
    assert_eq!((batch, started.elapsed()), (Some(Ok(vec![0, 1])), ms(100)));
}

#[tokio::test(start_paused = true)]
async fn harm_dropping_the_stream_drops_the_batch_that_it_collects() {
    let (sender, items) = channel(10);
    sender.send(1).await.unwrap();
    let mut batches = micro_batch(items, up_to(10, 100), |_| 0);
    assert!(batches.next().now_or_never().is_none());
    assert!(format!("{batches:?}").contains("items: 1"), "{batches:?}");
    drop(batches);

    // To end the input instead gives all that was collected.
    let (sender, items) = channel(10);
    sender.send(1).await.unwrap();
    let started = Instant::now();
    let stop = sleep(ms(30));
    let items = pin!(items.take_until(stop));
    let batches = micro_batch(items, up_to(10, 100), |_| 0);
    let batches: Vec<_> = batches.collect().await;
    assert_eq!((batches, started.elapsed()), (vec![Ok(vec![1])], ms(30)));
    drop(sender); // it was there all the time, so this was not the end of the channel
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_nothing_takes_what_is_there_and_one_without_end_fills_every_batch() {
    let (sender, items) = channel(10);
    let mut batches = micro_batch(items, up_to(10, 0), |_| 0);
    let started = Instant::now();
    for item in 0..3 {
        sender.send(item).await.unwrap();
    }
    assert_eq!(batches.next().await, Some(Ok(vec![0, 1, 2])));
    assert_eq!(started.elapsed(), Duration::ZERO);

    let forever = Limits {
        wait: Duration::MAX,
        ..up_to(2, 0)
    };
    let batches = micro_batch(at(&[0, 100_000, 200_000], 300_000), forever, |_| 0);
    let expected = good([(&[0, 100_000], 100_000), (&[200_000], 300_000)]);
    assert_eq!(with_instants(batches).await, expected);
}

#[tokio::test(start_paused = true)]
async fn in_a_select_that_drops_next_all_the_time_nothing_is_lost_or_late() {
    let items = [50, 125, 200, 275, 900];
    let mut batches = micro_batch(at(&items, 2_000), up_to(10, 100), |_| 0);
    let (started, mut all, mut dropped) = (Instant::now(), Vec::new(), 0);
    loop {
        select! {
            batch = batches.next() => match batch {
                Some(batch) => all.push((batch, started.elapsed().as_millis())),
                None => break,
            },
            () = sleep(ms(7)) => dropped += 1,
        }
    }
    let expected = good([(&[50, 125], 150), (&[200, 275], 300), (&[900], 1_000)]);
    assert_eq!(all, expected);
    assert!(dropped > 200, "{dropped}");
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_await_point_of_the_loop_no_item_is_lost() {
    type Batches = MicroBatch<Channel, fn(&u64) -> usize>;
    let points = every_await_point(
        LIMIT,
        async || {
            let (sender, items) = channel(1);
            tokio::spawn(async move {
                for item in 1..=7 {
                    sender.send(item).await.unwrap();
                    sleep(ms(40)).await;
                }
            });
            yield_now().await;
            let weigh: fn(&u64) -> usize = |item| if *item == 6 { 9 } else { 1 };
            let batches: Batches = micro_batch(items, limits(3, 9, 100), weigh);
            (batches, Vec::new())
        },
        async |(batches, read)| {
            while let Some(Ok(batch)) = batches.next().await {
                read.extend(batch);
            }
        },
        async |(batches, mut read), outcome| {
            let rest: Vec<_> = batches.map(Result::unwrap).concat().await;
            if let Outcome::Completed(()) = outcome {
                assert_eq!(rest, []);
            }
            read.extend(rest);
            assert_eq!(read, [1, 2, 3, 4, 5, 6, 7]);
        },
    )
    .await;
    assert!(
        points.as_ref().is_ok_and(|points| *points >= 8),
        "{points:?}"
    );
}

#[tokio::test]
async fn ready_chunks_gives_what_is_there_and_panics_at_zero() {
    let (sender, items) = channel(10);
    sender.send(1).await.unwrap();
    let mut chunks = items.ready_chunks(10);
    assert_eq!(
        chunks.next().await,
        Some(vec![Ok(1)]),
        "it waits for no other"
    );
    let zero = std::panic::catch_unwind(|| stream::iter([1]).ready_chunks(0));
    assert!(zero.is_err());
}
