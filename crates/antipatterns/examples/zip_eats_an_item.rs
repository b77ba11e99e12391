//! cargo run --example zip_eats_an_item
//!
//! Two shifts of three seconds; a number goes out each second, from the same queue.

use std::pin::pin;
use std::time::Duration;

use antipatterns::zip_eats_an_item::send_paced;
use futures_util::stream::{StreamExt, iter};
use streams::from_iter_and_interval::{ZeroPeriod, paced, ticks};
use tokio::time::{Instant, MissedTickBehavior, sleep};

const SECOND: Duration = Duration::from_secs(1);
/// Long enough for three ticks, the first one at once.
const SHIFT: Duration = Duration::from_millis(2_500);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), ZeroPeriod> {
    let (mut queue, mut sent) = (1..100, Vec::new());
    for _ in 0..2 {
        let send = |number| sent.push(number);
        send_paced(iter(&mut queue), SECOND, sleep(SHIFT), send).await;
    }
    println!("zip:   {sent:?}, and next would be {:?}", queue.next());

    let (mut queue, mut sent) = (1..100, Vec::new());
    for _ in 0..2 {
        let ticks = ticks(Instant::now(), SECOND, MissedTickBehavior::Skip)?;
        let mut paced = pin!(paced(ticks.take_until(sleep(SHIFT)), iter(&mut queue)));
        while let Some((_, number)) = paced.next().await {
            sent.push(number);
        }
    }
    println!("paced: {sent:?}, and next would be {:?}", queue.next());
    Ok(())
}
