//! cargo run --example futurelock
//!
//! A save of 25 ms, and a report of the state each 10 ms meanwhile, as branches of one `select!`,
//! and with the save in a task of its own.

use std::convert::Infallible;
use std::time::Duration;

use antipatterns::futurelock::save_and_report;
use sync::async_lock::AsyncLock;
use tokio::select;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let state = Mutex::new(0);
    let save = async |state: &mut u32| {
        sleep(25 * MS).await;
        *state += 1;
    };
    let saved = timeout(HOUR, save_and_report(&state, save, 10 * MS, |_| {})).await;
    let state = state.into_inner();
    println!(
        "one task:   saved within an hour: {}, state: {state}",
        saved.is_ok()
    );

    let started = Instant::now();
    let state = AsyncLock::new(0);
    let saving = state.clone();
    let mut saving = AbortOnDropHandle::new(tokio::spawn(async move {
        let save = async |state: &mut u32| {
            sleep(25 * MS).await;
            *state += 1;
            Ok::<_, Infallible>(())
        };
        saving.update(HOUR, save).await
    }));
    let saved = loop {
        select! {
            saved = &mut saving => break saved.is_ok(),
            () = sleep(10 * MS) => if let Err(busy) = state.draft(8 * MS).await {
                println!("async_lock: {:>2} ms: {busy}", started.elapsed().as_millis());
            },
        }
    };
    let at = started.elapsed().as_millis();
    println!("async_lock: {at:>2} ms: saved: {saved}");
}
