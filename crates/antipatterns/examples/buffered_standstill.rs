//! cargo run --example buffered_standstill
//!
//! Ten calls at once, of 100 ms at most and with a limit of 200 ms; storing a result takes 500 ms.

use std::num::NonZeroUsize;
use std::time::Duration;

use antipatterns::buffered_standstill::fetch_and_store;
use futures_util::{StreamExt, stream};
use streams::concurrent_map::{Order, concurrent_map};
use tokio::time::{error::Elapsed, sleep, timeout};

const MS: Duration = Duration::from_millis(1);

async fn call(number: u32) -> Result<u32, Elapsed> {
    let step = if number == 0 { 5 * MS } else { 50 * MS };
    let call = async {
        sleep(step).await; // connects
        sleep(step).await; // asks
        number
    };
    timeout(200 * MS, call).await
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let mut failed = 0;
    let store = async |result: Result<u32, Elapsed>| {
        failed += u32::from(result.is_err());
        sleep(500 * MS).await;
    };
    fetch_and_store(0..10, 10, call, store).await;
    println!("buffer_unordered: {failed} of 10 calls timed out");

    let mut failed = 0;
    let ten = NonZeroUsize::MIN.saturating_add(9);
    let mut results = concurrent_map(ten, Order::Ends, stream::iter(0..10), call);
    while let Some(result) = results.next().await {
        failed += u32::from(!matches!(result, Ok(Ok(_))));
        results.during(sleep(500 * MS)).await;
    }
    println!("concurrent_map:   {failed} of 10 calls timed out");
}
