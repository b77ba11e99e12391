//! cargo run --example channel_errors
//!
//! Letters go to a post office with room for two. What it cannot take is kept, and so is the letter
//! that nobody would wait for. The clock is virtual.

use std::time::Duration;

use errors::channel_errors::{NotReceived, Reason, Unsent, send_unless};
use tokio::sync::{broadcast, mpsc};
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let (office, mut clerk) = mpsc::channel(2);
    let mut kept = Vec::new();
    for letter in ["to Ann", "to Bo", "to Cy"] {
        if let Err(unsent) = office.try_send(letter).map_err(Unsent::from) {
            println!("{}: {unsent}", unsent.item);
            kept.push(unsent.item);
        }
    }
    for letter in kept.drain(..) {
        match send_unless(&office, letter, sleep(100 * MS)).await {
            Ok(()) => println!("{letter}: sent"),
            Err(Unsent { item, reason }) => println!("{item}: after 100 ms still {reason:?}"),
        }
    }
    while let Ok(letter) = clerk.try_recv() {
        println!("the clerk takes the letter {letter}");
    }
    drop(clerk);
    let closed = send_unless(&office, "to Di", sleep(100 * MS)).await;
    if let Err(unsent) = closed
        && unsent.reason == Reason::Closed
    {
        println!("{}: {unsent}", unsent.item);
    }

    let (radio, mut listener) = broadcast::channel(2);
    for song in 1..=5 {
        radio.send(song).ok(); // the listener is there
    }
    drop(radio);
    loop {
        match listener.recv().await.map_err(NotReceived::from) {
            Ok(song) => println!("song {song}"),
            Err(NotReceived::Closed) => break,
            Err(error) => println!("{error}"),
        }
    }
}
