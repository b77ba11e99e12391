//! What the order of stop, urgent and normal promises.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use select::shutdown_first::{Next, ShutdownFirst};
use testing::every_await_point::{Outcome, every_await_point};
use tokio::select;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);
const ONE: NonZeroUsize = NonZeroUsize::MIN;
const THREE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// A tokio receiver with these items in it, as a stream.
fn queue<T>(
    items: impl IntoIterator<Item = T>,
) -> (mpsc::Sender<T>, impl Stream<Item = T> + Unpin) {
    let (sender, mut receiver) = mpsc::channel(1_000);
    for item in items {
        sender.try_send(item).ok().unwrap();
    }
    (sender, stream::poll_fn(move |cx| receiver.poll_recv(cx)))
}

fn cancelled() -> CancellationToken {
    let token = CancellationToken::new();
    token.cancel();
    token
}

/// What comes in the next so many turns: `u`, `n`, `s` for the stop, `e` for the end.
async fn turns<U, N>(both: &mut ShutdownFirst<U, N>, count: usize) -> String
where
    U: Stream + Unpin,
    N: Stream + Unpin,
{
    let mut all = String::new();
    for _ in 0..count {
        all.push(match timeout(LIMIT, both.next()).await.expect("it waits") {
            Next::Urgent(_) => 'u',
            Next::Normal(_) => 'n',
            Next::Stopped => 's',
            Next::Ended => 'e',
        });
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_stop_wins_a_thousand_times_of_a_thousand_against_items_that_are_ready() {
    let (u, urgent) = queue(0..1_000);
    let (n, normal) = queue(0..1_000);
    let mut both = ShutdownFirst::new(cancelled(), urgent, normal, THREE);
    assert_eq!(turns(&mut both, 1_000).await, "s".repeat(1_000));
    drop((u, n));
    let (urgent, normal) = both.into_sources();
    let all: Vec<_> = (0..1_000).collect();
    assert_eq!(urgent.collect::<Vec<_>>().await, all, "some were taken");
    assert_eq!(normal.collect::<Vec<_>>().await, all, "some were taken");
}

#[tokio::test(start_paused = true)]
async fn in_a_plain_select_an_item_wins_against_the_stop_about_half_of_the_time() {
    let (_sender, mut items) = queue(0..1_000);
    let stop = cancelled();
    let mut stops = 0;
    for _ in 0..1_000 {
        select! {
            () = stop.cancelled() => stops += 1,
            _ = items.next() => {}
        }
    }
    assert!((400..600).contains(&stops), "{stops} of 1000");
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait_for_an_item() {
    let (_u, urgent) = queue::<()>([]);
    let (_n, normal) = queue::<()>([]);
    let (stop, started) = (CancellationToken::new(), Instant::now());
    let mut both = ShutdownFirst::new(stop.clone(), urgent, normal, ONE);
    tokio::spawn(async move {
        sleep(Duration::from_millis(70)).await;
        stop.cancel();
    });
    assert_eq!(turns(&mut both, 2).await, "ss");
    assert_eq!(started.elapsed(), Duration::from_millis(70));
}

#[tokio::test(start_paused = true)]
async fn a_normal_item_that_is_ready_waits_for_no_more_urgent_ones_than_the_limit() {
    let (_n, normal) = queue(0..300);
    let (_u, urgent) = queue(0..900);
    let mut both = ShutdownFirst::new(CancellationToken::new(), urgent, normal, THREE);
    assert_eq!(turns(&mut both, 1_200).await, "uuun".repeat(300));
}

#[tokio::test(start_paused = true)]
async fn with_biased_alone_a_later_branch_never_has_its_turn() {
    let (_n, mut normal) = queue(0..10);
    let mut urgent = stream::repeat(());
    let (mut urgents, mut normals) = (0, 0);
    for _ in 0..10_000 {
        select! {
            biased;
            Some(()) = urgent.next() => urgents += 1,
            Some(_) = normal.next() => normals += 1,
        }
    }
    assert_eq!((urgents, normals), (10_000, 0));
}

#[tokio::test(start_paused = true)]
async fn the_limit_holds_for_sources_that_are_always_ready_and_spend_no_budget() {
    for limit in [ONE, THREE] {
        let (_n, normal) = queue(0..500);
        let urgent = stream::repeat(());
        let mut both = ShutdownFirst::new(CancellationToken::new(), urgent, normal, limit);
        let expected = format!("{}n", "u".repeat(limit.get())).repeat(500);
        let all = turns(&mut both, expected.len()).await;
        assert_eq!(
            all, expected,
            "for the lack of budget a receiver seems empty"
        );
    }
}

#[tokio::test]
async fn other_tasks_run_beside_sources_that_are_always_ready() {
    let stop = CancellationToken::new();
    let mut both = ShutdownFirst::new(stop.clone(), stream::repeat(()), stream::repeat(()), ONE);
    tokio::spawn(async move { stop.cancel() });
    let mut items = 0;
    while both.next().await != Next::Stopped {
        items += 1;
        assert!(items <= 128, "the task that stops it has no turn");
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_comes_while_the_urgent_ones_pass_waits_for_the_limit_at_most() {
    // Whenever it comes, before which of the urgent ones, and also when none had come before.
    for before in 0..10 {
        let (sender, normal) = queue([]);
        let urgent = stream::repeat(());
        let mut both = ShutdownFirst::new(CancellationToken::new(), urgent, normal, THREE);
        assert_eq!(turns(&mut both, before).await, "u".repeat(before));
        sender.send(()).await.unwrap();
        let waits = turns(&mut both, 4).await.find('n');
        assert!(waits.is_some_and(|waits| waits <= 3), "{waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_source_goes_on_without_the_other_and_the_end_of_both_is_told() {
    let stop = CancellationToken::new();
    let (n, normal) = queue([1, 2]);
    drop(n);
    let mut both = ShutdownFirst::new(stop.clone(), stream::iter([0; 5]), normal, ONE);
    assert_eq!(turns(&mut both, 9).await, "ununuuuee");

    let mut both = ShutdownFirst::new(
        stop.clone(),
        stream::empty::<()>(),
        stream::iter([0; 3]),
        ONE,
    );
    assert_eq!(turns(&mut both, 5).await, "nnnee");

    stop.cancel();
    assert_eq!(turns(&mut both, 1).await, "s", "also after the end");
}

#[tokio::test(start_paused = true)]
async fn beside_a_branch_that_waits_for_a_stop_else_never_runs() {
    let stop = CancellationToken::new();
    let mut ended = stream::empty::<()>();
    let both = async {
        select! {
            () = stop.cancelled() => "stopped",
            Some(()) = ended.next() => "an item",
            else => "ended",
        }
    };
    timeout(LIMIT, both)
        .await
        .expect_err("it waits for the stop");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_must_not_be_polled_after_its_end_is_not() {
    let once = stream::unfold(true, async |first| first.then_some(((), false)));
    let once = Box::pin(once); // panics when polled after its end
    let (_n, normal) = queue([(), ()]);
    let mut both = ShutdownFirst::new(CancellationToken::new(), once, normal, ONE);
    assert_eq!(turns(&mut both, 3).await, "unn");
    timeout(LIMIT, both.next())
        .await
        .expect_err("the other may still have something");
}

#[tokio::test(start_paused = true)]
async fn an_enormous_limit_is_no_limit_and_no_panic() {
    let (_n, normal) = queue([()]);
    let urgent = stream::iter([(); 1_000]);
    let mut both = ShutdownFirst::new(CancellationToken::new(), urgent, normal, NonZeroUsize::MAX);
    assert_eq!(turns(&mut both, 1_001).await, "u".repeat(1_000) + "n");
}

#[tokio::test(start_paused = true)]
async fn while_an_item_is_worked_on_the_stop_is_heard_only_by_work_that_is_run_until_cancelled() {
    for listens in [false, true] {
        let (_n, normal) = queue([()]);
        let (stop, started) = (CancellationToken::new(), Instant::now());
        let mut both = ShutdownFirst::new(stop.clone(), stream::empty::<()>(), normal, ONE);
        let button = stop.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(70)).await;
            button.cancel();
        });
        assert_eq!(turns(&mut both, 1).await, "n");
        let work = sleep(Duration::from_millis(500));
        if listens {
            assert!(stop.run_until_cancelled(work).await.is_none());
        } else {
            work.await;
        }
        assert_eq!(turns(&mut both, 1).await, "s");
        let ended = Duration::from_millis(if listens { 70 } else { 500 });
        assert_eq!(started.elapsed(), ended);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_has_taken_no_item() {
    let points = every_await_point(
        LIMIT,
        async || {
            let (u, urgent) = queue(0..5);
            let (n, normal) = queue(0..5);
            tokio::spawn(async move {
                sleep(Duration::from_millis(10)).await; // so that it really waits as well
                u.send(5).await.unwrap();
                sleep(Duration::from_millis(10)).await;
                n.send(5).await.unwrap();
            });
            let token = CancellationToken::new();
            (ShutdownFirst::new(token, urgent, normal, ONE), 0)
        },
        async |(both, taken)| {
            while both.next().await != Next::Ended {
                *taken += 1;
            }
        },
        async |(mut both, mut taken), outcome| {
            while both.next().await != Next::Ended {
                taken += 1;
            }
            assert_eq!(taken, 12, "an item is lost");
            assert!(matches!(
                outcome,
                Outcome::Dropped(_) | Outcome::Completed(())
            ));
        },
    )
    .await;
    assert!(points.unwrap() >= 12);
}
