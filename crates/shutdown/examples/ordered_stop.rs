//! cargo run --example ordered_stop
//!
//! Ten seconds for three stages. The listeners leave some of their time to the others; the workers
//! hang and use up their share; the storage is flushed all the same. The clock is virtual, so it ends
//! at once.

use std::future::pending;
use std::num::NonZeroU32;
use std::time::Duration;

use shutdown::ordered_stop::{OrderedStop, Outcome, StopLimits};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const ONE: NonZeroU32 = NonZeroU32::MIN;
const THREE: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let started = Instant::now();
    let begins = move |name, limit: Duration| {
        let at = started.elapsed().as_millis();
        println!("{at:>4} ms  {name}: begins, has {} ms", limit.as_millis());
    };
    let stages = OrderedStop::new()
        .stage("listeners", ONE, async move |limit| {
            begins("listeners", limit);
            sleep(SECOND).await;
            Ok(())
        })
        .stage("workers", THREE, async move |limit| {
            begins("workers", limit);
            pending().await
        })
        .stage("storage", ONE, async move |limit| {
            begins("storage", limit);
            sleep(SECOND).await;
            Err("one replica did not answer")
        });

    let limits = StopLimits {
        finish: 10 * SECOND,
        abort: SECOND,
    };
    for ended in stages.run(limits).await {
        let outcome = match ended.outcome {
            Outcome::Finished => "finished".to_owned(),
            Outcome::Failed(error) => format!("failed: {error}"),
            Outcome::Panicked(message) => format!("panicked: {message}"),
            Outcome::Aborted => "aborted".to_owned(),
            Outcome::StillRunning => "still running".to_owned(),
        };
        let took = ended.took.as_millis();
        println!("{}: {outcome} after {took} ms", ended.name);
    }
    println!("{:>4} ms  all done", started.elapsed().as_millis());
}
