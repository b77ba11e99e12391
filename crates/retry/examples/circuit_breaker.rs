//! cargo run --example circuit_breaker
//!
//! A server hangs from 1 s to 8 s. A client asks it twice a second, with a limit of 400 ms for each
//! call: behind a breaker most of the calls that could not succeed are refused at once. The clock is
//! virtual, so it ends at once.

use std::convert::Infallible;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use retry::circuit_breaker::{CallError, CircuitBreaker, Settings};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

const SETTINGS: Settings = Settings {
    window: NonZeroUsize::MIN.saturating_add(9),
    failures: NonZeroUsize::MIN.saturating_add(2),
    open: Duration::from_secs(2),
    probes: NonZeroU32::MIN.saturating_add(1),
};

async fn server(started: Instant) -> Result<&'static str, Infallible> {
    if (1..8).contains(&started.elapsed().as_secs()) {
        sleep(Duration::from_secs(60)).await;
    }
    Ok("an answer")
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let breaker = CircuitBreaker::new(SETTINGS);
    let (started, limit) = (Instant::now(), Duration::from_millis(400));
    let mut ticks = interval(Duration::from_millis(500));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..24 {
        ticks.tick().await;
        let at = started.elapsed().as_millis();
        let said = match breaker.call(limit, |_| true, server(started)).await {
            Ok(answer) => answer.to_owned(),
            Err(CallError::Refused(refused)) => refused.to_string(),
            Err(error) => format!("{error}, now {:?}", breaker.status()),
        };
        println!("{at:>5} ms: {said}");
    }
    println!("in the end: {:?}", breaker.status());
}
