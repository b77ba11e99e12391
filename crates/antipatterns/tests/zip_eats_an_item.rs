//! What `zip` takes ahead, and what becomes of it.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::pin::pin;
use std::time::Duration;

use antipatterns::zip_eats_an_item::send_paced;
use futures_util::stream::{StreamExt, iter, repeat_with};
use streams::from_iter_and_interval::{paced, ticks};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_stream::wrappers::IntervalStream;

const SECOND: Duration = Duration::from_secs(1);
/// Long enough for ten ticks, the first one at once.
const SHIFT: Duration = Duration::from_millis(9_500);

#[tokio::test(start_paused = true)]
async fn harm_each_stop_costs_an_item() {
    let (mut queue, mut sent) = (0..1_000, Vec::new());
    for _ in 0..10 {
        send_paced(iter(&mut queue), SECOND, sleep(SHIFT), |item| {
            sent.push(item);
        })
        .await;
    }
    assert_eq!((sent.len(), queue.next()), (100, Some(110)));
    assert_eq!(
        sent[8..12],
        [8, 9, 11, 12],
        "and so its test passes, up to the first stop"
    );
}

#[tokio::test(start_paused = true)]
async fn harm_an_item_is_a_period_old_when_it_goes_out() {
    let mut ages = Vec::new();
    let made = repeat_with(Instant::now);
    let send = |made: Instant| ages.push(made.elapsed());
    send_paced(made, SECOND, sleep(SHIFT), send).await;
    assert_eq!(ages[0], Duration::ZERO);
    assert_eq!(ages[1..], [SECOND; 9]);
}

#[tokio::test(start_paused = true)]
async fn harm_the_other_way_round_it_eats_as_well() {
    let mut queue = 0..1_000;
    let ticks = IntervalStream::new(interval(SECOND)).take_until(sleep(SHIFT));
    assert_eq!(ticks.zip(iter(&mut queue)).count().await, 10);
    assert_eq!(queue.next(), Some(11));
}

#[tokio::test(start_paused = true)]
async fn mended_every_item_goes_out_and_none_is_old() {
    let (mut queue, mut sent) = (0..1_000, Vec::new());
    for _ in 0..10 {
        let ticks = ticks(Instant::now(), SECOND, MissedTickBehavior::Skip).unwrap();
        let mut paced = pin!(paced(ticks.take_until(sleep(SHIFT)), iter(&mut queue)));
        while let Some((_, item)) = paced.next().await {
            sent.push(item);
        }
    }
    assert!(sent.into_iter().eq(0..100));
    assert_eq!(queue.next(), Some(100));

    let ticks = ticks(Instant::now(), SECOND, MissedTickBehavior::Skip).unwrap();
    let made = paced(ticks.take(10), repeat_with(Instant::now));
    let ages: Vec<_> = made.map(|(_, made)| made.elapsed()).collect().await;
    assert_eq!(ages, [Duration::ZERO; 10]);
}
