//! cargo run --example delay
//!
//! A thread that knows nothing of async ends three waits: two by pulling the trigger, one by dropping
//! it. The combinator counts the polls: one to begin with, and another when it is woken.

use std::sync::mpsc;
use std::thread;

use traits::delay::{CountPolls, Trigger, delay};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (orders, ordered) = mpsc::sync_channel::<(Trigger, bool)>(1);
    let worker = thread::spawn(move || {
        for (trigger, pull) in ordered {
            if pull {
                trigger.pull();
            } else {
                drop(trigger);
            }
        }
    });
    for (name, pull) in [("first", true), ("second", false), ("third", true)] {
        let (trigger, delay) = delay();
        // Polled once before the thread hears of it, so that each has to be woken.
        let mut delay = Box::pin(CountPolls::new(delay));
        assert!(futures_util::poll!(&mut delay).is_pending());
        if orders.send((trigger, pull)).is_err() {
            println!("the thread is gone");
        }
        let (end, polls) = delay.await;
        println!(
            "{name}: {end:?}, polled again when it was woken: {}",
            polls > 1
        );
    }
    drop(orders);
    println!("the thread ended well: {}", worker.join().is_ok());
}
