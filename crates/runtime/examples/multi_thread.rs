//! cargo run --example multi_thread
//!
//! A runtime of two named workers serves some tasks, and is left with a closure still blocked:
//! shutdown returns by its deadline and says so. The attribute can set the workers and no more.

use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use runtime::multi_thread::Settings;
use tokio::runtime::Handle;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Settings {
        workers: NonZeroUsize::new(2),
        thread_name: "api".to_owned(), // and a number: api-0, api-1
        shutdown_limit: Duration::from_millis(100),
        ..Settings::default()
    }
    .build()?;
    println!("workers: {}", runtime.handle().metrics().num_workers());
    runtime.handle().block_on(async {
        let pages = ["index", "about"].map(|page| {
            tokio::spawn(async move {
                let thread = thread::current();
                let name = thread.name().unwrap_or_default();
                format!(
                    "{page} served by {}",
                    name.trim_end_matches(char::is_numeric)
                )
            })
        });
        for page in pages {
            println!("{}", page.await?);
        }
        Ok::<_, tokio::task::JoinError>(())
    })?;

    let (release, released) = sync_channel::<()>(0);
    let (tell, begun) = sync_channel(0);
    let stuck = runtime.handle().spawn_blocking(move || {
        tell.send(())?;
        Ok::<_, Box<dyn Error + Send + Sync>>(released.recv()?)
    });
    begun.recv()?;
    match runtime.shutdown() {
        Ok(()) => println!("shutdown: all threads ended"),
        Err(error) => println!("shutdown: {error}"),
    }
    drop((release, stuck));

    by_attribute();
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn by_attribute() {
    let workers = Handle::current().metrics().num_workers();
    println!("by attribute, workers: {workers}");
}
