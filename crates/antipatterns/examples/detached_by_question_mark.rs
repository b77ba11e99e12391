//! cargo run --example detached_by_question_mark
//!
//! Ten uploads, each in a task. The first fails after 10 ms, the others take a second. What is
//! uploaded when the caller has the error, and what is a minute later? The clock is virtual.

use std::future::pending;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use antipatterns::detached_by_question_mark::upload_all;
use structured::batch::{OnFailure, batch};
use tokio::time::sleep;

const TEN: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9);

async fn upload(number: usize, uploaded: Arc<AtomicUsize>) -> io::Result<()> {
    if number == 0 {
        sleep(Duration::from_millis(10)).await;
        return Err(io::Error::other("no space left"));
    }
    sleep(Duration::from_secs(1)).await;
    uploaded.fetch_add(1, Relaxed);
    Ok(())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    for with_batch in [false, true] {
        let uploaded = Arc::new(AtomicUsize::new(0));
        let uploads = (0..10).map(|number| upload(number, Arc::clone(&uploaded)));
        let (name, error) = if with_batch {
            let report = batch(TEN, OnFailure::Stop, pending(), uploads, |upload| upload).await;
            let error = report.into_values().map_err(|failure| failure.to_string());
            ("batch:       ", error.err())
        } else {
            let error = upload_all(uploads).await.map_err(|error| error.to_string());
            ("task.await??:", error.err())
        };
        let now = uploaded.load(Relaxed);
        sleep(Duration::from_secs(60)).await;
        let later = uploaded.load(Relaxed);
        println!("{name} {error:?}; uploaded by then: {now}, and a minute later: {later}");
    }
}
