//! Which values a loop sees that begins with `changed`.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::time::Duration;

use antipatterns::unseen_first_value::follow;
use channels::config_watch::ConfigWatch;
use tokio::sync::watch::{Sender, channel};
use tokio::task::yield_now;

/// What was applied over the life of the channel, in which `changes` are sent.
async fn applied(sender: Sender<u32>, changes: &[u32]) -> Vec<u32> {
    let mut applied = Vec::new();
    let following = follow(sender.subscribe(), |value| applied.push(value));
    let changing = async move {
        for change in changes {
            sender.send(*change).unwrap();
            yield_now().await;
        }
    };
    tokio::join!(following, changing);
    applied
}

#[tokio::test]
async fn harm_the_value_that_is_there_is_never_applied() {
    assert_eq!(applied(Sender::new(100), &[]).await, [0; 0]);
    assert_eq!(
        applied(Sender::new(100), &[200]).await,
        [200],
        "so its test passes"
    );
}

#[tokio::test]
async fn harm_ten_subscribers_miss_the_first_value_if_they_come_after_it() {
    for (after_the_first, expected) in [(false, vec![100, 200]), (true, vec![200])] {
        for _ in 0..10 {
            let (sender, early) = channel(0);
            sender.send(100).unwrap();
            let receiver = if after_the_first {
                sender.subscribe()
            } else {
                early
            };
            let mut applied = Vec::new();
            let following = follow(receiver, |value| applied.push(value));
            let changing = async move {
                yield_now().await;
                sender.send(200).unwrap();
            };
            tokio::join!(following, changing);
            assert_eq!(applied, expected);
        }
    }
}

#[tokio::test]
async fn harm_a_clone_has_seen_what_its_original_has() {
    let (sender, mut original) = channel(0);
    sender.send(100).unwrap();
    let fresh = original.clone();
    original.mark_unchanged();
    assert!(fresh.has_changed().unwrap());
    assert!(!original.clone().has_changed().unwrap());
}

#[tokio::test]
async fn mended_mark_changed_makes_the_first_value_a_change() {
    let (sender, mut receiver) = channel(100);
    receiver.mark_changed();
    drop(sender);
    let mut applied = Vec::new();
    follow(receiver, |value| applied.push(value)).await;
    assert_eq!(applied, [100]);
}

#[tokio::test]
async fn mended_a_reader_begins_with_the_value_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("limit");
    std::fs::write(&path, "100").unwrap();
    let parse = |bytes: &[u8]| Ok::<_, std::io::Error>(bytes.len());
    let config = ConfigWatch::start(path, Duration::MAX, parse)
        .await
        .unwrap();
    assert_eq!(config.reader().next().await.as_deref(), Some(&3));
}
