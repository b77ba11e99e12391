//! cargo run --example concurrency_limit_layer
//!
//! Two services before one database that bears two queries at once, and three callers for each. With
//! tower's layer each service has a limit of its own, and four queries run; with a shared one, two.
//! Then a service is made ready and not called: one of the places is out of use. The clock is virtual.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use middleware::concurrency_limit_layer::SharedLimit;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::limit::ConcurrencyLimitLayer;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

type Database = Arc<(AtomicUsize, AtomicUsize)>;

async fn query(database: Database) -> Result<(), BoxError> {
    let (running, peak) = &*database;
    peak.fetch_max(
        running.fetch_add(1, Ordering::Relaxed) + 1,
        Ordering::Relaxed,
    );
    sleep(Duration::from_millis(100)).await;
    running.fetch_sub(1, Ordering::Relaxed);
    Ok(())
}

async fn three_callers_each<S>(services: [S; 2], layers: &str) -> Result<(), BoxError>
where
    S: Service<Database, Response = (), Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let (started, database) = (Instant::now(), Database::default());
    let mut callers = JoinSet::new();
    for service in services {
        for _ in 0..3 {
            callers.spawn(service.clone().oneshot(Arc::clone(&database)));
        }
    }
    while let Some(result) = callers.join_next().await {
        result??;
    }
    let (peak, elapsed) = (database.1.load(Ordering::Relaxed), started.elapsed());
    println!(
        "{layers}: {peak} at once, done after {} ms",
        elapsed.as_millis()
    );
    Ok(())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), BoxError> {
    let each = ConcurrencyLimitLayer::new(2);
    let services = [(); 2].map(|()| each.layer(service_fn(query)));
    three_callers_each(services, "a limit for each").await?;

    let shared = SharedLimit::new(NonZeroUsize::MIN.saturating_add(1));
    let services = [(); 2].map(|()| shared.layer().layer(service_fn(query)));
    three_callers_each(services, "a shared limit").await?;

    let mut kept = shared.layer().layer(service_fn(query));
    kept.ready().await?;
    println!(
        "ready and not called: {} of {} taken",
        shared.taken(),
        shared.limit()
    );
    let services = [(); 2].map(|()| shared.layer().layer(service_fn(query)));
    three_callers_each(services, "what is left").await?;
    drop(kept);
    println!("dropped: {} taken", shared.taken());
    Ok(())
}
