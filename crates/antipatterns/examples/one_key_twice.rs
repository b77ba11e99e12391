//! cargo run --example one_key_twice
//!
//! A device reconnects. Two readings lie in its first connection, two in its second.

use antipatterns::one_key_twice::follow_all;
use futures_util::StreamExt;
use futures_util::stream::{Iter, iter};
use streams::merge::{Event, Merged};
use tokio::sync::mpsc::channel;

fn connections() -> [(String, Iter<std::vec::IntoIter<u32>>); 2] {
    [vec![1, 2], vec![3, 4]].map(|readings| ("cellar".to_owned(), iter(readings)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (connect, receiver) = channel(2);
    for connection in connections() {
        connect.send(connection).await.ok();
    }
    drop(connect);
    let mut handled = Vec::new();
    follow_all(receiver, |_, reading| handled.push(reading)).await;
    println!("StreamMap: {handled:?}");

    let (mut devices, mut waiting) = (Merged::new(), Vec::new());
    for (id, readings) in connections() {
        if let Err(occupied) = devices.insert(id, readings) {
            println!("merge:     {occupied}");
            waiting.push(occupied);
        }
    }
    let mut handled = Vec::new();
    while let Some((_, event)) = devices.next().await {
        match event {
            Event::Item(reading) => handled.push(reading),
            Event::Ended => {
                if let Some(next) = waiting.pop() {
                    devices.insert(next.key, next.stream).ok();
                }
            }
        }
    }
    println!("merge:     {handled:?}");
}
