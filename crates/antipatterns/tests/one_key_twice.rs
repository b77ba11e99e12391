//! What a second stream under one key does to the first.
#![cfg(test)] // so that the lints take the helpers for what they are

use antipatterns::one_key_twice::follow_all;
use futures_util::stream::{StreamExt, iter};
use streams::merge::{Event, Merged};
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::yield_now;
use tokio_stream::StreamMap;
use tokio_stream::wrappers::ReceiverStream;

/// A connection, with these readings in it.
fn connection(readings: std::ops::Range<u32>) -> (Sender<u32>, ReceiverStream<u32>) {
    let (device, receiver) = channel(100);
    readings.for_each(|reading| device.try_send(reading).unwrap());
    (device, ReceiverStream::new(receiver))
}

/// What comes of two connections of a hundred readings each.
async fn handled(ids: [&str; 2]) -> Vec<u32> {
    let (connect, connections) = channel(2);
    for (number, id) in (0..2).zip(ids) {
        let (_, readings) = connection(number * 100..number * 100 + 100);
        connect.send((id.to_owned(), readings)).await.unwrap();
    }
    drop(connect);
    let mut handled = Vec::new();
    follow_all(connections, |_, reading| handled.push(reading)).await;
    handled.sort_unstable();
    handled
}

#[tokio::test]
async fn harm_what_lay_in_the_first_connection_is_lost() {
    assert!(handled(["a", "a"]).await.into_iter().eq(100..200));
    assert!(
        handled(["a", "b"]).await.into_iter().eq(0..200),
        "so its test passes"
    );
}

#[tokio::test]
async fn harm_of_two_devices_with_one_id_the_first_is_cut_off() {
    let (connect, connections) = channel(2);
    let following = tokio::spawn(follow_all(connections, |_, _| ()));
    let ((first, readings), (second, others)) = (connection(0..0), connection(0..0));
    connect.send(("a".to_owned(), readings)).await.unwrap();
    yield_now().await;
    first.send(1).await.unwrap();
    connect.send(("a".to_owned(), others)).await.unwrap();
    first.closed().await;
    assert_eq!(
        first.send(2).await.unwrap_err().to_string(),
        "channel closed"
    );
    assert!(!second.is_closed() && !following.is_finished());
}

#[tokio::test]
async fn harm_collect_drops_one_and_extend_keeps_both() {
    let two = || [("a", iter([1])), ("a", iter([2]))];
    assert_eq!(StreamMap::from_iter(two()).len(), 1);
    let mut both = StreamMap::new();
    both.extend(two());
    assert_eq!(both.len(), 2);
    drop(both.remove("a").unwrap());
    assert!(both.contains_key("a"));
}

#[tokio::test]
async fn mended_the_second_is_given_back_and_the_first_is_read_to_its_end() {
    let mut devices = Merged::new();
    let (_, first) = connection(0..100);
    let (_, second) = connection(100..200);
    devices.insert("a", first).unwrap();
    let mut waiting = Some(devices.insert("a", second).unwrap_err());
    let mut handled = Vec::new();
    while let Some((_, event)) = devices.next().await {
        match event {
            Event::Item(reading) => handled.push(reading),
            Event::Ended => {
                if let Some(second) = waiting.take() {
                    devices.insert(second.key, second.stream).unwrap();
                }
            }
        }
    }
    assert!(handled.into_iter().eq(0..200));
}
