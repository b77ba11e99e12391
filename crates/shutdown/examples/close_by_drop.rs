//! cargo run --example close_by_drop
//!
//! Three sessions are open when the program stops. Each returns its seat when it is dropped, by an
//! async cleanup: one is quick, one panics and has it done all the same, and one never ends. The wait
//! tells that one is left. The clock is virtual, so it ends at once.

use std::future::pending;
use std::time::Duration;

use shutdown::close_by_drop::{OnDrop, close_by_drop};
use tokio::time::{Instant, sleep};

/// A session with a seat at a server far away.
struct Session {
    name: &'static str,
    _return_seat: OnDrop, // not to be read, only to be dropped
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    std::panic::set_hook(Box::new(|_| {})); // the session's panic is on purpose
    let started = Instant::now();
    let at = move || format!("{:>4} ms", started.elapsed().as_millis());
    let (guard, mut last_drop) = close_by_drop();

    for (name, lasts) in [
        ("quick", Some(100)),
        ("broken", Some(250)),
        ("endless", None),
    ] {
        let return_seat = async move {
            sleep(Duration::from_millis(50)).await; // a request to the server
            println!("{}  the seat of {name} is free", at());
        };
        let session = Session {
            name,
            _return_seat: guard.on_drop(name, Duration::from_secs(1), return_seat),
        };
        tokio::spawn(async move {
            let session = session; // all of it, not only the name that is printed
            match lasts {
                Some(lasts) => sleep(Duration::from_millis(lasts)).await,
                None => pending().await,
            }
            println!("{}  {} ends", at(), session.name);
            assert_ne!(session.name, "broken");
        });
    }
    drop(guard); // it counts too

    println!("{}  {} sessions are open", at(), last_drop.holders());
    match last_drop.wait(Duration::from_secs(2)).await {
        Ok(()) => println!("{}  all seats are free", at()),
        Err(held) => println!("{}  {held}", at()),
    }
}
