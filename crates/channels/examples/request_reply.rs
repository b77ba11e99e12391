//! cargo run --example request_reply
//!
//! A ticket office with five seats: one task owns them, three groups ask for some at the same time.
//! Each sale takes 30 ms. Then a caller gives up, and the office closes.

use std::num::NonZeroUsize;
use std::time::Duration;

use channels::request_reply::{Handle, actor};
use tokio::time::Instant;

const ROOM_FOR: NonZeroUsize = NonZeroUsize::MIN;

async fn ask(office: &Handle<u32, Option<u32>>, seats: u32, within: u64, started: Instant) {
    let answer = office.call(seats, Duration::from_millis(within)).await;
    let answer = match answer {
        Ok(Some(left)) => format!("sold, {left} left"),
        Ok(None) => "not that many left".to_owned(),
        Err(error) => format!("no answer: {error}"),
    };
    println!(
        "{:>3} ms  {seats} seats: {answer}",
        started.elapsed().as_millis()
    );
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let (office, inbox) = actor(ROOM_FOR);
    let mut free: u32 = 5;
    let task = tokio::spawn(inbox.serve(async move |seats: u32| {
        tokio::time::sleep(Duration::from_millis(30)).await;
        free = free.checked_sub(seats)?;
        Some(free)
    }));

    tokio::join!(
        ask(&office, 2, 1000, started),
        ask(&office, 4, 1000, started),
        ask(&office, 3, 1000, started),
    );
    ask(&office, 1, 10, started).await;

    task.abort();
    drop(task.await); // cancelled, as we asked for
    ask(&office, 1, 1000, started).await;
}
