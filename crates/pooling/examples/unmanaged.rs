//! cargo run --example unmanaged
//!
//! Two workers are lent to five jobs. One job panics, one takes too long and is dropped, and one
//! breaks its worker, which is replaced. The clock is virtual, so it ends at once.

use std::error::Error;
use std::time::Duration;

use pooling::unmanaged::Lender;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

#[derive(Debug)]
struct Worker {
    name: &'static str,
    unfinished: bool,
    broken: bool,
}

impl Worker {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            unfinished: false,
            broken: false,
        }
    }
}

fn check_in(worker: &mut Worker, panicked: bool) -> bool {
    if worker.unfinished {
        let how = if panicked { "panicked" } else { "was dropped" };
        println!(
            "        {} is put in order, since its job {how}",
            worker.name
        );
        worker.unfinished = false;
    }
    !worker.broken
}

async fn job(
    lender: &Lender<Worker>,
    name: &str,
    takes: u64,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut worker = lender.borrow().await?;
    worker.unfinished = true;
    sleep(Duration::from_millis(takes)).await;
    assert!(name != "job 2", "it fails");
    worker.broken = name == "job 4";
    worker.unfinished = false;
    Ok(())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    std::panic::set_hook(Box::new(|_| {})); // the outcome tells of the panic; once is enough
    let started = Instant::now();
    let workers = vec![Worker::new("Ann"), Worker::new("Bo")];
    let lender = Lender::new(workers, Duration::from_millis(250), check_in);

    let mut jobs = JoinSet::new();
    for (name, takes) in [
        ("job 1", 110),
        ("job 2", 60),
        ("job 3", 900),
        ("job 4", 70),
        ("job 5", 80),
    ] {
        let lender = lender.clone();
        jobs.spawn(async move {
            let limit = Duration::from_millis(300);
            // Caught here, so that the panic can be told beside the name of the job.
            let inner =
                tokio::spawn(async move { timeout(limit, job(&lender, name, takes)).await });
            (name, inner.await)
        });
    }
    while let Some(ended) = jobs.join_next().await {
        let (name, ended) = ended?;
        let said = match ended {
            Ok(Ok(Ok(()))) => "done".to_owned(),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "dropped, as it took too long".to_owned(),
            Err(_) => "panicked".to_owned(),
        };
        println!("{:>3} ms  {name}: {said}", started.elapsed().as_millis());
    }
    println!("workers left: {}", lender.size());
    lender.add(Worker::new("Cy"))?;
    println!(
        "workers now: {}, the next job gets {}",
        lender.size(),
        lender.borrow().await?.name
    );
    lender.close();
    if let Err(error) = lender.borrow().await {
        println!("after the close: {error}");
    }
    Ok(())
}
