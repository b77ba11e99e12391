//! What streams merged by key promise, and what the other ways to merge do.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{FutureExt, Stream, StreamExt, future, stream};
use streams::merge::{Event, Merged, Occupied};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::StreamMap;
use tokio_stream::wrappers::{IntervalStream, ReceiverStream};

const LIMIT: Duration = Duration::from_secs(60);
const MILLI: Duration = Duration::from_millis(1);

/// A stream that gives `items`, each so many milliseconds after the one before, and then ends.
fn timed(items: &[(u64, u32)]) -> BoxStream<'static, u32> {
    stream::iter(items.to_vec())
        .then(async |(millis, item)| {
            sleep(Duration::from_millis(millis)).await;
            item
        })
        .boxed()
}

fn merged<K, S>(streams: impl IntoIterator<Item = (K, S)>) -> Merged<K, S>
where
    K: Clone + Eq + Hash + Unpin + Debug,
    S: Stream + Unpin,
{
    let mut merged = Merged::new();
    for (key, stream) in streams {
        merged.insert(key, stream).unwrap();
    }
    merged
}

/// Counts how often the stream in it is polled.
struct Polled<S>(S, Rc<Cell<usize>>);

impl<S: Stream + Unpin> Stream for Polled<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.1.set(self.1.get() + 1);
        self.0.poll_next_unpin(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn items_come_as_they_happen_and_each_end_is_told_with_its_key() {
    let started = Instant::now();
    let mut merged = merged([
        ("a", timed(&[(10, 1), (30, 2)])),
        ("b", timed(&[(20, 3), (30, 4)])),
        ("c", timed(&[])),
    ]);
    let mut came = Vec::new();
    while let Some((key, event)) = merged.next().await {
        came.push((started.elapsed().as_millis(), key, event));
    }
    let expected = [
        (0, "c", Event::Ended),
        (10, "a", Event::Item(1)),
        (20, "b", Event::Item(3)),
        (40, "a", Event::Item(2)),
        (40, "a", Event::Ended),
        (50, "b", Event::Item(4)),
        (50, "b", Event::Ended),
    ];
    assert_eq!(came, expected);
    assert!(merged.is_empty());
    assert_eq!(merged.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_second_stream_under_a_key_is_handed_back_and_the_first_goes_on() {
    let mut merged = merged([("a", timed(&[(10, 1)]))]);
    let Occupied { key, stream } = merged.insert("a", timed(&[(20, 2)])).unwrap_err();
    assert_eq!(key, "a");
    assert_eq!(merged.next().await, Some(("a", Event::Item(1))));
    assert_eq!(merged.next().await, Some(("a", Event::Ended)));
    merged.insert(key, stream).unwrap();
    assert_eq!(merged.next().await, Some(("a", Event::Item(2))));
    assert_eq!(merged.next().await, Some(("a", Event::Ended)));
    assert_eq!(merged.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn occupied_is_an_error_that_can_be_passed_on() {
    let mut merged = merged([("a", timed(&[]))]);
    let error: Box<dyn std::error::Error> = merged.insert("a", timed(&[])).unwrap_err().into();
    assert_eq!(
        error.to_string(),
        "there is a stream under this key: remove it first"
    );
}

#[tokio::test]
async fn it_knows_its_keys_and_is_shown_by_them() {
    let mut merged = merged([("a", stream::pending::<()>()), ("b", stream::pending())]);
    let mut keys: Vec<_> = merged.keys().copied().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a", "b"]);
    assert!(!merged.is_empty());
    let taken = merged.insert("b", stream::pending()).unwrap_err();
    assert_eq!(format!("{taken:?}"), "Occupied { key: \"b\", .. }");
    assert!(merged.remove(&"b").is_some());
    assert_eq!(format!("{merged:?}"), "Merged { keys: {\"a\"}, .. }");
}

#[tokio::test(start_paused = true)]
async fn a_key_is_taken_until_its_end_is_read() {
    let mut merged = merged([("a", stream::iter([1]))]);
    assert_eq!(merged.next().await, Some(("a", Event::Item(1))));
    assert!(merged.contains_key(&"a") && merged.len() == 1);
    assert!(merged.insert("a", stream::iter([2])).is_err());
    assert_eq!(merged.next().await, Some(("a", Event::Ended)));
    assert!(!merged.contains_key(&"a") && merged.is_empty());
    assert_eq!(merged.keys().count(), 0);
    merged.insert("a", stream::iter([2])).unwrap();
    assert_eq!(merged.next().await, Some(("a", Event::Item(2))));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_dropped_at_its_end_and_not_at_that_of_all() {
    let (sender, receiver) = mpsc::channel(1);
    let ends = ReceiverStream::new(receiver).take(1).boxed();
    let mut merged = merged([("goes on", timed(&[(10, 2)])), ("channel", ends)]);
    sender.send(7).await.unwrap();
    assert!(!sender.is_closed());
    while merged.next().await.unwrap() != ("channel", Event::Ended) {}
    assert!(sender.is_closed(), "the stream is still there");
    assert!(merged.contains_key(&"goes on"));
}

#[tokio::test(start_paused = true)]
async fn a_removed_stream_comes_back_with_what_it_holds_and_no_end_is_told_for_it() {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..4).map(|_| mpsc::channel(4)).unzip();
    let mut merged = merged((0..).zip(receivers.into_iter().map(ReceiverStream::new)));
    assert!(timeout(MILLI, merged.next()).await.is_err());
    for (key, sender) in senders.iter().enumerate() {
        sender.send(10 * key).await.unwrap();
    }
    let mut removed = merged.remove(&1).unwrap();
    assert_eq!(removed.next().await, Some(10));
    assert!(merged.remove(&1).is_none());
    assert_eq!(merged.len(), 3);
    merged.insert(1, removed).unwrap();
    drop(senders);
    let mut events: Vec<_> = merged.collect().await;
    events.sort_by_key(|(key, event)| (*key, *event == Event::Ended));
    let expected: Vec<_> = [0, 1, 2, 3]
        .into_iter()
        .flat_map(|key| [(key, Event::Item(10 * key)), (key, Event::Ended)])
        .filter(|event| *event != (1, Event::Item(10)))
        .collect();
    assert_eq!(events, expected);
}

#[tokio::test(start_paused = true)]
async fn the_others_are_still_woken_after_a_removal() {
    let (sender, receiver) = mpsc::channel(1);
    let mut merged = merged([("a", timed(&[(10, 1)])), ("b", timed(&[(20, 2)]))]);
    let channel = ReceiverStream::new(receiver).boxed();
    merged.insert("channel", channel).unwrap();
    assert!(timeout(MILLI, merged.next()).await.is_err());
    drop(merged.remove(&"a"));
    tokio::spawn(async move {
        sleep(4 * MILLI).await;
        sender.send(7).await.unwrap();
        sleep(LIMIT).await;
    });
    let started = Instant::now();
    assert_eq!(merged.next().await, Some(("channel", Event::Item(7))));
    assert_eq!(started.elapsed(), 4 * MILLI);
    assert_eq!(merged.next().await, Some(("b", Event::Item(2))));
    assert_eq!(started.elapsed(), 19 * MILLI);
}

#[tokio::test(start_paused = true)]
async fn a_key_used_again_right_after_its_end_is_removed_as_what_it_is_now() {
    let mut merged = merged([("a", stream::iter(vec![]))]);
    assert_eq!(merged.next().await, Some(("a", Event::Ended)));
    merged.insert("a", stream::iter(vec![1, 2])).unwrap();
    let removed = merged.remove(&"a").expect("the new stream is lost");
    assert_eq!(removed.collect::<Vec<_>>().await, [1, 2]);
    assert_eq!(merged.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_always_ready_take_turns() {
    let merged = merged((0..10).map(|key| (key, stream::repeat(()))));
    let keys: Vec<_> = merged.map(|(key, _)| key).take(1_000).collect().await;
    for round in keys.chunks(10) {
        assert_eq!(round, &keys[..10], "the order changed: somebody waited");
        assert_eq!(round.iter().sum::<i32>(), 45, "somebody was left out");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_stream_that_was_woken_is_polled() {
    let polls = Rc::new(Cell::new(0));
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..1_000).map(|_| mpsc::channel(1)).unzip();
    let streams = receivers.into_iter().map(ReceiverStream::new);
    let streams = streams.map(|stream| Polled(stream, Rc::clone(&polls)));
    let mut merged = merged((0..).zip(streams));
    assert_eq!(merged.next().now_or_never(), None);
    assert_eq!(polls.replace(0), 1_000, "at first, each must be asked");
    senders[500].send(7).await.unwrap();
    assert_eq!(merged.next().await, Some((500, Event::Item(7))));
    assert_eq!(merged.next().now_or_never(), None);
    assert_eq!(polls.get(), 2, "once for the item, once to wait again");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_has_taken_nothing() {
    let points = every_await_point(
        LIMIT,
        async || {
            let streams = merged([("a", timed(&[(10, 1), (30, 2)])), ("b", timed(&[(20, 3)]))]);
            (streams, Vec::new())
        },
        async |(merged, came)| {
            while let Some(event) = merged.next().await {
                came.push(event);
            }
        },
        async |(merged, mut came), round| {
            if round == Outcome::Completed(()) {
                assert_eq!(came.len(), 5);
            }
            came.extend(merged.collect::<Vec<_>>().await);
            let (a, b): (Vec<_>, Vec<_>) = came.into_iter().partition(|(key, _)| *key == "a");
            let items = [Event::Item(1), Event::Item(2), Event::Ended];
            assert_eq!(a, items.map(|event| ("a", event)));
            assert_eq!(b, [("b", Event::Item(3)), ("b", Event::Ended)]);
        },
    );
    let points = points.await.unwrap();
    assert!(points >= 3, "{points}");
}

#[tokio::test(start_paused = true)]
async fn a_set_that_was_at_its_end_is_good_again_after_an_insert() {
    let mut merged = Merged::new();
    assert_eq!(merged.next().await, None);
    merged.insert("a", timed(&[(10, 1)])).unwrap();
    assert_eq!(merged.next().await, Some(("a", Event::Item(1))));
}

#[test]
fn it_can_move_to_another_thread_with_its_streams() {
    fn assert_send<T: Send>(_: &T) {}
    assert_send(&merged([("a", timed(&[]))]));
}

// ------------------------------------------------------------------------------------- Watch out

#[tokio::test(start_paused = true)]
async fn harm_a_stream_map_drops_the_first_of_two_under_a_key_or_keeps_both() {
    let mut inserted = StreamMap::new();
    inserted.insert("a", stream::iter([1]));
    inserted.insert("a", stream::iter([2])); // nothing warns that the result is not used
    assert_eq!(inserted.collect::<Vec<_>>().await, [("a", 2)]);

    let two = || [("a", stream::iter([1])), ("a", stream::iter([2]))];
    let collected: StreamMap<_, _> = two().into_iter().collect();
    assert_eq!(collected.collect::<Vec<_>>().await, [("a", 2)]);

    let mut extended = StreamMap::new();
    extended.extend(two());
    assert_eq!(extended.len(), 2);
    assert!(extended.remove(&"a").is_some() && extended.contains_key(&"a"));
}

#[tokio::test(start_paused = true)]
async fn harm_a_stream_map_and_a_select_all_do_not_tell_that_a_stream_has_ended() {
    let streams = || [stream::iter([1]).boxed(), timed(&[(10, 2), (10, 3)])];
    let map: StreamMap<_, _> = ["ends", "goes on"].into_iter().zip(streams()).collect();
    let items: Vec<_> = map.collect().await;
    assert_eq!(items, [("ends", 1), ("goes on", 2), ("goes on", 3)]);
    let all = SelectAll::from_iter(streams());
    assert_eq!(all.collect::<Vec<_>>().await, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn harm_in_a_stream_map_the_neighbour_of_idle_streams_gets_nearly_all_the_turns() {
    let mut map = StreamMap::new();
    for key in 0..98 {
        map.insert(key, stream::pending().boxed());
    }
    map.insert(98, stream::repeat(()).boxed());
    map.insert(99, stream::repeat(()).boxed());
    let keys: Vec<_> = map.map(|(key, ())| key).take(10_000).collect().await;
    let share = keys.iter().filter(|key| **key == 98).count();
    assert!((9_700..=9_980).contains(&share), "{share} of 10,000"); // 9,900 are expected
}

#[tokio::test(start_paused = true)]
async fn harm_a_stream_map_polls_all_before_it_waits_and_half_of_them_to_find_the_one() {
    let polls = Rc::new(Cell::new(0));
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..100).map(|_| mpsc::channel(1)).unzip();
    let streams = receivers.into_iter().map(ReceiverStream::new);
    let streams = streams.map(|stream| Polled(stream, Rc::clone(&polls)));
    let mut map: StreamMap<_, _> = (0..).zip(streams).collect();
    let (mut to_find, mut to_wait) = (0, 0);
    for sender in senders.iter().cycle().take(1_000) {
        sender.send(()).await.unwrap();
        map.next().await.unwrap();
        to_find += polls.replace(0);
        assert_eq!(map.next().now_or_never(), None);
        to_wait += polls.replace(0);
    }
    assert_eq!(to_wait, 100_000);
    assert!((45_000..=56_000).contains(&to_find), "{to_find}"); // 50,500 are expected
}

/// How many items of an always ready stream come between an item of the other stream becoming ready
/// and its coming, at most and in all, over 1,000 items.
async fn overtaken<S>(
    merge: impl FnOnce(BoxStream<'static, u32>, ReceiverStream<u32>) -> S,
) -> (u32, u32)
where
    S: Stream<Item = u32>,
{
    let (sender, receiver) = mpsc::channel(1);
    let mut merged = pin!(merge(
        stream::repeat(0).boxed(),
        ReceiverStream::new(receiver)
    ));
    let (mut most, mut all) = (0, 0);
    for round in 0..1_000 {
        for _ in 0..round % 3 {
            merged.next().await; // whosever turn it is
        }
        sender.send(1).await.unwrap();
        let mut before = 0;
        while merged.next().await != Some(1) {
            before += 1;
        }
        most = most.max(before);
        all += before;
    }
    (most, all)
}

#[tokio::test(start_paused = true)]
async fn beside_an_always_ready_stream_a_slow_one_waits_for_an_item_at_most_unless_by_chance() {
    let (most, _) = overtaken(tokio_stream::StreamExt::merge).await;
    assert_eq!(most, 1);
    let (most, _) = overtaken(stream::select).await;
    assert_eq!(most, 1);
    let (most, _) = overtaken(|ready, slow| {
        let mut merged = Merged::new();
        merged.insert("ready", ready).unwrap();
        merged.insert("slow", slow.boxed()).unwrap();
        merged.filter_map(|(_, event)| {
            future::ready(match event {
                Event::Item(item) => Some(item),
                Event::Ended => None,
            })
        })
    })
    .await;
    assert_eq!(most, 1);
    let (most, all) = overtaken(|ready, slow| {
        let map: StreamMap<_, _> = [("ready", ready), ("slow", slow.boxed())]
            .into_iter()
            .collect();
        map.map(|(_, item)| item)
    })
    .await;
    assert!(most > 3, "{most}"); // a coin is thrown each time
    assert!((800..=1_200).contains(&all), "{all}"); // 1,000 are expected
}

#[tokio::test(start_paused = true)]
async fn harm_nobody_reads_the_second_of_a_chain_while_the_first_goes_on() {
    let (sender, receiver) = mpsc::channel(1);
    let started = Instant::now();
    let producer = tokio::spawn(async move {
        for item in 0..3 {
            sender.send(item).await.unwrap();
        }
        started.elapsed()
    });
    let chained = timed(&[(100, 7), (100, 8)]).chain(ReceiverStream::new(receiver));
    assert_eq!(chained.collect::<Vec<_>>().await, [7, 8, 0, 1, 2]);
    assert_eq!(producer.await.unwrap(), Duration::from_millis(200));

    let mut ticks = interval(Duration::from_millis(30));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let ticks = IntervalStream::new(ticks).map(|_| 0).take(4);
    let merged = tokio_stream::StreamExt::merge(timed(&[(100, 7)]), ticks);
    let expected = [0, 0, 0, 0, 7]; // at 0, 30, 60, 90 and 100
    assert_eq!(merged.collect::<Vec<_>>().await, expected);
}

#[tokio::test(start_paused = true)]
async fn harm_a_merge_goes_on_when_one_has_ended() {
    let ticks = || IntervalStream::new(interval(Duration::from_millis(30))).map(|_| 0);
    let both = tokio_stream::StreamExt::merge(timed(&[(40, 7)]), ticks());
    let went_on = timeout(LIMIT, both.count()).await;
    assert!(went_on.is_err(), "it ended with one of them");

    let mut told = merged([("a", timed(&[(40, 7)])), ("b", ticks().boxed())]);
    let started = Instant::now();
    while told.next().await.unwrap() != ("a", Event::Ended) {}
    assert_eq!(started.elapsed(), Duration::from_millis(40));
}

#[tokio::test(start_paused = true)]
async fn harm_an_empty_set_makes_a_careless_loop_spin() {
    let mut merged = Merged::<&str, BoxStream<'static, ()>>::new();
    let mut turns = 0;
    let started = Instant::now();
    while turns < 10_000 {
        tokio::select! {
            biased;
            _event = merged.next() => turns += 1,
            () = sleep(LIMIT) => break,
        }
    }
    assert_eq!((turns, started.elapsed()), (10_000, Duration::ZERO));
    tokio::select! {
        biased;
        _event = merged.next(), if !merged.is_empty() => panic!("not guarded"),
        () = sleep(LIMIT) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn harm_a_panic_in_one_stream_is_a_panic_of_the_reader_and_no_end_is_told() {
    let panics = stream::poll_fn(|_| panic!("malformed")).boxed();
    let mut merged = merged([("bad", panics), ("good", timed(&[(10, 1)]))]);
    let next = AssertUnwindSafe(merged.next()).catch_unwind().await;
    assert!(next.is_err());
    assert!(merged.contains_key(&"bad"));
    let rest: Vec<_> = merged.by_ref().collect().await;
    assert_eq!(rest, [("good", Event::Item(1)), ("good", Event::Ended)]);
    assert!(merged.is_empty(), "a key stays taken for ever");
}

#[tokio::test(start_paused = true)]
async fn a_few_always_ready_streams_beside_many_idle_ones_share_evenly() {
    let idle = (0..98).map(|key| (key, stream::pending().boxed()));
    let busy = (98..100).map(|key| (key, stream::repeat(()).boxed()));
    let merged = merged(idle.chain(busy));
    let mut shares = HashMap::<_, usize>::new();
    for (key, _) in merged.take(10_000).collect::<Vec<_>>().await {
        *shares.entry(key).or_default() += 1;
    }
    assert_eq!(shares, HashMap::from([(98, 5_000), (99, 5_000)]));
}
