//! cargo run --example lost_wakeup
//!
//! A job is done 5 ms after somebody began to ask for it, and the answer takes 10 ms: the wait for
//! a change begins after the change. With a `Notified` made before the look, and with a monitor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use antipatterns::lost_wakeup::wait_until;
use sync::notify::Monitor;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let (is_done, changed) = (AtomicBool::new(false), Notify::new());
    let ask = async || {
        let answer = is_done.load(Ordering::Relaxed);
        sleep(10 * MS).await; // it is on its way
        answer
    };
    let work = async || {
        sleep(5 * MS).await;
        is_done.store(true, Ordering::Relaxed);
        changed.notify_waiters();
    };
    let (ended, ()) = tokio::join!(timeout(HOUR, wait_until(&changed, ask)), work());
    println!(
        "look, then wait:    ended within an hour: {}",
        ended.is_ok()
    );

    is_done.store(false, Ordering::Relaxed);
    let started = Instant::now();
    let wait = async {
        loop {
            let notified = changed.notified(); // hears what comes from now on
            if ask().await {
                break;
            }
            notified.await;
        }
        started.elapsed().as_millis()
    };
    let (ended, ()) = tokio::join!(wait, work());
    println!("make, look, wait:   ended after {ended} ms");

    let started = Instant::now();
    let state = Monitor::new(false);
    let work = async {
        sleep(5 * MS).await;
        state.update(|is_done| *is_done = true);
    };
    let wait = state.wait_until(|is_done| is_done.then(|| started.elapsed().as_millis()));
    let (ended, ()) = tokio::join!(wait, work);
    println!("notify (a monitor): ended after {ended} ms");
}
