//! What ticks, items at their pace and cooperative streams promise.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt, future, stream};
use streams::from_iter_and_interval::{Tick, Ticks, ZeroPeriod, cooperative, paced, ticks};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::sync::mpsc;
use tokio::task::coop::unconstrained;
use tokio::task::yield_now;
use tokio::time::MissedTickBehavior::{Burst, Delay, Skip};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::{IntervalStream, ReceiverStream};

const LIMIT: Duration = Duration::from_secs(60);
const PERIOD: Duration = Duration::from_millis(100);

fn from_now(missed: MissedTickBehavior) -> Ticks {
    ticks(Instant::now(), PERIOD, missed).unwrap()
}

fn millis(started: Instant) -> u128 {
    started.elapsed().as_millis()
}

#[tokio::test(start_paused = true)]
async fn ticks_come_at_the_first_instant_and_each_period_after_it_and_count_from_zero() {
    let started = Instant::now();
    let first = started + Duration::from_millis(30);
    let mut ticks = ticks(first, PERIOD, Burst).unwrap();
    for (number, at) in (0..).zip([30, 130, 230, 330]) {
        let due = started + Duration::from_millis(at);
        assert_eq!(ticks.next().await, Some(Tick { number, due }));
        assert_eq!(millis(started), u128::from(at));
        sleep(PERIOD / 3).await; // work that is in time changes nothing
    }
}

#[tokio::test(start_paused = true)]
async fn numbers_stay_exact_where_the_clock_rounds() {
    let first = Instant::now();
    let period = Duration::from_micros(10_700);
    let ticks = ticks(first, period, Skip).unwrap();
    let numbers: Vec<u64> = ticks.take(1_000).map(|tick| tick.number).collect().await;
    assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn after_a_stall_the_numbers_tell_what_was_missed() {
    for (missed, expected) in [
        (Burst, [(0, 0), (1, 350), (2, 350), (3, 350), (4, 400)]),
        (Delay, [(0, 0), (1, 350), (4, 450), (5, 550), (6, 650)]),
        (Skip, [(0, 0), (1, 350), (4, 400), (5, 500), (6, 600)]),
    ] {
        let started = Instant::now();
        let mut ticks = from_now(missed);
        let mut came = Vec::new();
        while came.len() < expected.len() {
            let tick = ticks.next().await.unwrap();
            came.push((tick.number, millis(started)));
            if tick.number == 0 {
                sleep(Duration::from_millis(350)).await;
            }
        }
        assert_eq!(came, expected, "{missed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_always_late_gets_what_it_can_take() {
    // 250 ms for each tick, a tick each 100 ms.
    for (missed, numbers, due) in [
        (Burst, [0, 1, 2, 3, 4], [0, 100, 200, 300, 400]), // ever later, without bound
        (Delay, [0, 1, 3, 6, 8], [0, 100, 350, 600, 850]),
        (Skip, [0, 1, 3, 6, 8], [0, 100, 300, 600, 800]),
    ] {
        let started = Instant::now();
        let mut ticks = from_now(missed).take(5);
        let mut came = Vec::new();
        while let Some(tick) = ticks.next().await {
            came.push((tick.number, (tick.due - started).as_millis()));
            sleep(Duration::from_millis(250)).await;
        }
        let expected: Vec<_> = numbers.into_iter().zip(due).collect();
        assert_eq!(came, expected, "{missed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_period_of_zero_is_an_error_and_an_enormous_one_is_no_panic() {
    let now = Instant::now();
    assert_eq!(ticks(now, Duration::ZERO, Burst).unwrap_err(), ZeroPeriod);
    let mut once = ticks(now, Duration::MAX, Burst).unwrap();
    assert_eq!(once.next().await.unwrap().number, 0);
    assert!(timeout(LIMIT, once.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn items_come_one_at_each_tick_and_the_end_at_once_with_the_last() {
    let started = Instant::now();
    let items = tokio_stream::iter(["a", "b", "c"]);
    let mut paced = pin!(paced(from_now(Skip), items));
    let mut came = Vec::new();
    while let Some((tick, item)) = paced.next().await {
        came.push((tick.number, item, millis(started)));
    }
    assert_eq!(came, [(0, "a", 0), (1, "b", 100), (2, "c", 200)]);
    assert_eq!(millis(started), 200, "it waited for a tick to see the end");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_no_size_hint_tells_is_found_at_the_next_tick() {
    let started = Instant::now();
    let items = tokio_stream::iter(0..4).filter(|item| future::ready(item % 2 == 0));
    let count = paced(from_now(Skip), items).count().await;
    assert_eq!((count, millis(started)), (2, 200));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_ticks_takes_no_item_too_many() {
    let mut items = (0..10).inspect(|item| assert!(*item < 4, "made, and never used"));
    let paced = paced(from_now(Skip).take(3), stream::iter(items.by_ref()));
    let came: Vec<_> = paced.map(|(_, item)| item).collect().await;
    assert_eq!(came, [0, 1, 2]);
    assert_eq!(items.next(), Some(3));
}

#[tokio::test(start_paused = true)]
async fn an_item_is_made_at_its_tick_and_not_before() {
    let started = Instant::now();
    let made = stream::repeat_with(|| millis(started));
    let paced = paced(from_now(Skip), made);
    let came: Vec<_> = paced.map(|(_, made)| made).take(4).collect().await;
    assert_eq!(came, [0, 100, 200, 300]);
}

#[tokio::test(start_paused = true)]
async fn a_late_item_comes_at_once_and_the_ticks_it_missed_are_those_of_any_stall() {
    for (missed, expected) in [
        (Burst, [(0, 350), (1, 350), (2, 350), (3, 350), (4, 400)]),
        (Delay, [(0, 350), (1, 350), (4, 450), (5, 550), (6, 650)]),
        (Skip, [(0, 350), (1, 350), (4, 400), (5, 500), (6, 600)]),
    ] {
        let (sender, receiver) = mpsc::channel(10);
        let started = Instant::now();
        tokio::spawn(async move {
            sleep(Duration::from_millis(350)).await;
            for item in 0..5 {
                sender.send(item).await.unwrap();
            }
        });
        let mut paced = pin!(paced(from_now(missed), ReceiverStream::new(receiver)));
        let mut came = Vec::new();
        while let Some((tick, _)) = paced.next().await {
            came.push((tick.number, millis(started)));
        }
        assert_eq!(came, expected, "{missed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_has_taken_neither_tick_nor_item() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (sender, receiver) = mpsc::channel(10);
            for item in 0..4 {
                sender.send(item).await.unwrap();
            }
            let items = ReceiverStream::new(receiver);
            (Box::pin(paced(from_now(Burst), items)), Vec::new())
        },
        async |(paced, came)| {
            while let Some((tick, item)) = paced.next().await {
                came.push((tick.number, item));
            }
        },
        async |(paced, mut came), round| {
            if round == Outcome::Completed(()) {
                assert_eq!(came.len(), 4);
            }
            came.extend(
                paced
                    .map(|(tick, item)| (tick.number, item))
                    .collect::<Vec<_>>()
                    .await,
            );
            assert_eq!(came, [(0, 0), (1, 1), (2, 2), (3, 3)]);
        },
    );
    let points = points.await.unwrap();
    assert!(points >= 4, "{points}");
}

#[tokio::test(start_paused = true)]
async fn both_sides_come_back_with_every_item_that_did_not_come_out() {
    let mut paced = paced(from_now(Skip), tokio_stream::iter(0..5));
    assert_eq!(paced.next().await.unwrap().1, 0);
    assert!(timeout(PERIOD / 2, paced.next()).await.is_err());
    let (mut ticks, items) = paced.into_parts();
    assert_eq!(items.collect::<Vec<_>>().await, [1, 2, 3, 4]);
    assert_eq!(ticks.next().await.unwrap().number, 1);
}

/// Runs `work` beside a task that always has something to do; how many turns that one had.
async fn turns_of_others(work: impl Future<Output = ()>) -> usize {
    let turns = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counts.fetch_add(1, Ordering::SeqCst);
            yield_now().await;
        }
    });
    work.await;
    other.abort();
    turns.load(Ordering::SeqCst)
}

/// The others' turns while 12,801 items pass.
async fn turns_beside(items: impl Stream<Item = u64>) -> usize {
    turns_of_others(items.take(12_801).for_each(|_| future::ready(()))).await
}

#[tokio::test]
async fn a_cooperative_stream_lets_the_others_run_every_128_items() {
    let range = turns_beside(cooperative(stream::iter(0..))).await;
    assert_eq!(range, 100);
    let repeated = turns_beside(cooperative(stream::repeat(7))).await;
    assert_eq!(repeated, 100);
    let nothing_passes = cooperative(stream::iter(0..12_800)).filter(|_| future::ready(false));
    let filtered = turns_beside(nothing_passes).await;
    assert_eq!(filtered, 100);
}

#[tokio::test]
async fn the_iter_of_tokio_stream_lets_the_others_run_too() {
    let turns = turns_beside(tokio_stream::iter(0..)).await;
    assert!(turns == 100 || turns == 400, "{turns}"); // the latter without its feature `rt`
}

#[tokio::test(start_paused = true)]
async fn a_limit_around_a_cooperative_stream_is_kept() {
    let endless = cooperative(stream::repeat(7)).for_each(|_| future::ready(()));
    let mut rounds = 0;
    let counted = async {
        let mut endless = pin!(endless);
        future::poll_fn(|cx| {
            rounds += 1;
            endless.as_mut().poll(cx)
        })
        .await;
    };
    // The paused clock stands still while something is ready, so the limit is zero.
    assert!(timeout(Duration::ZERO, counted).await.is_err());
    assert!(rounds > 0);
}

#[tokio::test]
async fn cooperative_changes_no_item_and_does_nothing_where_there_is_no_budget() {
    let items: Vec<u32> = cooperative(stream::iter(0..1_000)).collect().await;
    assert_eq!(items, (0..1_000).collect::<Vec<_>>());
    assert_eq!(cooperative(stream::iter(0..9)).size_hint(), (9, Some(9)));
    assert_eq!(from_now(Skip).size_hint(), (usize::MAX, None), "no end");
    let turns = unconstrained(turns_beside(cooperative(stream::iter(0..)))).await;
    assert_eq!(turns, 0);
}

// ------------------------------------------------------------------------------------- Watch out

#[tokio::test]
async fn harm_an_always_ready_stream_starves_every_other_task() {
    assert_eq!(turns_beside(stream::iter(0..)).await, 0);
    assert_eq!(turns_beside(stream::repeat(7)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn harm_a_limit_around_an_always_ready_stream_never_fires() {
    let count = Cell::new(0);
    let work = stream::iter(0..1_000_000).for_each(|_| {
        count.set(count.get() + 1);
        future::ready(())
    });
    assert!(timeout(Duration::ZERO, work).await.is_ok(), "it fired");
    assert_eq!(count.get(), 1_000_000);
}

#[tokio::test]
async fn harm_cooperative_behind_a_filter_is_not_asked() {
    let nothing_passes = stream::iter(0..100_000).filter(|_| future::ready(false));
    assert_eq!(turns_beside(cooperative(nothing_passes)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn harm_zip_takes_an_item_a_period_before_its_tick() {
    let started = Instant::now();
    let made = || stream::repeat_with(|| millis(started));
    let first = made().zip(from_now(Skip));
    let came: Vec<_> = first.map(|(made, _)| made).take(4).collect().await;
    assert_eq!(came, [0, 0, 100, 200]);
    let restarted = millis(started);
    let second = from_now(Skip).zip(made());
    let came: Vec<_> = second.map(|(_, made)| made).take(4).collect().await;
    assert_eq!(came, [0, 0, 100, 200].map(|at| at + restarted));
}

#[tokio::test(start_paused = true)]
async fn harm_zip_eats_an_item_when_the_ticks_end_whichever_side_stands_first() {
    let mut items = 0..10;
    let ticks = from_now(Skip).take(3);
    assert_eq!(ticks.zip(stream::iter(items.by_ref())).count().await, 3);
    assert_eq!(items.next(), Some(4), "three came out, and four are gone");

    let mut items = 0..10;
    let ticks = from_now(Skip).take(3);
    assert_eq!(stream::iter(items.by_ref()).zip(ticks).count().await, 3);
    assert_eq!(items.next(), Some(4), "three came out, and four are gone");
}

#[tokio::test(start_paused = true)]
async fn harm_a_dropped_zip_loses_the_item_in_its_hand() {
    let mut items = 0..10;
    let mut zipped = stream::iter(items.by_ref()).zip(from_now(Skip));
    assert_eq!(zipped.next().await.unwrap().0, 0);
    assert!(timeout(PERIOD / 2, zipped.next()).await.is_err());
    drop(zipped);
    assert_eq!(items.next(), Some(2), "1 never came out");
}

#[tokio::test(start_paused = true)]
async fn harm_enumerate_hides_the_ticks_that_were_skipped() {
    let mut numbered = from_now(Skip).enumerate().take(3);
    let mut numbers = Vec::new();
    while let Some((counted, tick)) = numbered.next().await {
        numbers.push((counted, tick.number));
        sleep(Duration::from_millis(350)).await;
    }
    assert_eq!(numbers, [(0, 0), (1, 1), (2, 4)]);
}

#[tokio::test(start_paused = true)]
async fn harm_an_interval_bursts_unless_told_otherwise_and_panics_for_zero() {
    let started = Instant::now();
    let mut ticks = IntervalStream::new(interval(PERIOD));
    ticks.next().await;
    sleep(Duration::from_millis(350)).await;
    for _ in 0..3 {
        ticks.next().await;
        assert_eq!(millis(started), 350);
    }
    let zero = std::panic::catch_unwind(|| interval(Duration::ZERO));
    assert!(zero.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_throttle_drifts_by_the_works_time() {
    let started = Instant::now();
    let throttled = tokio_stream::StreamExt::throttle(stream::iter(0..4), PERIOD);
    let mut throttled = pin!(throttled);
    let mut at = Vec::new();
    while throttled.next().await.is_some() {
        at.push(millis(started));
        sleep(Duration::from_millis(130)).await;
    }
    assert_eq!(at, [0, 130, 260, 390]);
}
