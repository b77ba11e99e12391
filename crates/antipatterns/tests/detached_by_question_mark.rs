//! What becomes of the other tasks when the first of them fails.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::future::pending;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use antipatterns::detached_by_question_mark::{upload_all, upload_all_at_once};
use futures_util::future::try_join_all;
use structured::batch::{Failure, OnFailure, batch};
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);

/// Counts the uploads that have been done.
#[derive(Clone, Default)]
struct Uploads(Arc<AtomicUsize>);

impl Uploads {
    /// Takes a second, or fails after 10 ms.
    async fn upload(self, fails: bool) -> io::Result<()> {
        if fails {
            sleep(10 * MS).await;
            return Err(io::ErrorKind::StorageFull.into());
        }
        sleep(1000 * MS).await;
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Ten, of which one fails.
    fn ten(
        &self,
        failing: usize,
    ) -> impl Iterator<Item = impl Future<Output = io::Result<()>> + use<>> + use<'_> {
        (0..10).map(move |number| self.clone().upload(number == failing))
    }

    /// How many were done so far, and how many are a minute later.
    async fn now_and_later(&self) -> (usize, usize) {
        let now = self.0.load(Relaxed);
        sleep(60_000 * MS).await;
        (now, self.0.load(Relaxed))
    }
}

#[tokio::test(start_paused = true)]
async fn harm_after_the_error_the_other_nine_are_uploaded_for_nobody() {
    let uploads = Uploads::default();
    upload_all(uploads.ten(0)).await.unwrap_err();
    assert_eq!(uploads.now_and_later().await, (0, 9));

    let uploads = Uploads::default();
    upload_all_at_once(uploads.ten(0)).await.unwrap_err();
    assert_eq!(uploads.now_and_later().await, (0, 9));
}

#[tokio::test(start_paused = true)]
async fn harm_a_time_limit_around_it_stops_none_of_them() {
    let uploads = Uploads::default();
    timeout(100 * MS, upload_all(uploads.ten(10)))
        .await
        .unwrap_err();
    assert_eq!(uploads.now_and_later().await, (0, 10));
}

#[tokio::test(start_paused = true)]
async fn harm_the_error_of_the_last_is_told_after_all_before_it() {
    let (uploads, started) = (Uploads::default(), Instant::now());
    upload_all(uploads.ten(9)).await.unwrap_err();
    assert_eq!(started.elapsed().as_millis(), 1000);
    let started = Instant::now();
    upload_all_at_once(uploads.ten(9)).await.unwrap_err();
    assert_eq!(started.elapsed().as_millis(), 10);
}

#[tokio::test(start_paused = true)]
async fn harm_try_join_all_over_handles_takes_an_error_for_a_success() {
    let (uploads, started) = (Uploads::default(), Instant::now());
    let joined = try_join_all(uploads.ten(0).map(tokio::spawn))
        .await
        .unwrap();
    assert_eq!(started.elapsed().as_millis(), 1000);
    assert_eq!(joined.iter().filter(|upload| upload.is_err()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn mended_the_first_error_stops_the_others_and_none_is_done_later() {
    for failing in [0, 9] {
        let (uploads, started) = (Uploads::default(), Instant::now());
        let (ten, stop) = (NonZeroUsize::new(10).unwrap(), OnFailure::Stop);
        let report = batch(ten, stop, pending(), uploads.ten(failing), |upload| upload).await;
        assert_eq!(started.elapsed().as_millis(), 10);
        assert!(matches!(report.into_values(), Err(Failure::Failed(_))));
        assert_eq!(uploads.now_and_later().await, (0, 0));
    }
}
