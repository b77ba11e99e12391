//! What a branch that takes an item and then waits loses.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::time::Duration;

use antipatterns::item_lost_in_select::{move_and_report, move_one};
use channels::forward::forward;
use tokio::select;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, interval_at, sleep, timeout};

const ITEMS: usize = 11_000;
const MS: Duration = Duration::from_millis(1);

/// A tick each 100 ms, never at an instant at which an item is read.
fn ticks() -> Interval {
    interval_at(Instant::now() + 5 * MS, 100 * MS)
}

/// All items in, a target with room for four, and who reads it and counts: an item each `pause`.
fn ends(pause: Duration) -> (Receiver<usize>, Sender<usize>, JoinHandle<usize>) {
    let (source, from) = channel(ITEMS);
    (0..ITEMS).for_each(|item| source.try_send(item).unwrap());
    let (to, mut target) = channel(4);
    let reader = tokio::spawn(async move {
        let mut arrived = 0;
        while target.recv().await.is_some() {
            arrived += 1;
            sleep(pause).await;
        }
        arrived
    });
    (from, to, reader)
}

#[tokio::test(start_paused = true)]
async fn harm_each_of_a_thousand_reports_costs_an_item() {
    let (mut from, to, reader) = ends(10 * MS);
    let mut reports = 0;
    move_and_report(&mut from, &to, &mut ticks(), || reports += 1).await;
    drop(to);
    let lost = ITEMS - reader.await.unwrap();
    assert_eq!((reports, lost), (1_000, 1_000));
}

#[tokio::test(start_paused = true)]
async fn harm_nothing_is_lost_while_there_is_room_so_its_test_passes() {
    let (source, mut from) = channel(ITEMS);
    let (to, target) = channel(ITEMS);
    tokio::spawn(async move {
        for item in 0..ITEMS {
            sleep(10 * MS).await;
            source.send(item).await.unwrap();
        }
    });
    let mut reports = 0;
    move_and_report(&mut from, &to, &mut ticks(), || reports += 1).await;
    assert_eq!((reports, target.len()), (1_100, ITEMS));
}

#[tokio::test(start_paused = true)]
async fn harm_a_timeout_around_the_move_loses_as_much() {
    let (mut from, to, reader) = ends(10 * MS);
    let mut cancelled = 0;
    while cancelled < 1_000 {
        cancelled += usize::from(timeout(3 * MS, move_one(&mut from, &to)).await.is_err());
    }
    while move_one(&mut from, &to).await {}
    drop(to);
    assert_eq!(reader.await.unwrap(), ITEMS - 1_000);
}

#[tokio::test(start_paused = true)]
async fn mended_the_same_reports_cost_nothing() {
    let (mut from, to, reader) = ends(10 * MS);
    let (mut reports, mut ticks) = (0, ticks());
    loop {
        select! {
            done = forward(&mut from, &to, |item| item) => break done.unwrap(),
            _ = ticks.tick() => reports += 1,
        }
    }
    drop(to);
    assert_eq!((reports, reader.await.unwrap()), (1_100, ITEMS));
}
