//! cargo run --example dropped_file
//!
//! A file is saved while the threads for blocking work are busy, and read as soon as it is saved:
//! by a `File` of tokio that is dropped, and as a whole. Then the same at the end of the process.

use std::error::Error;
use std::fs::read_to_string;
use std::path::Path;
use std::pin::pin;
use std::sync::mpsc::sync_channel;

use antipatterns::dropped_file::save;
use futures_util::poll;
use io::durable_write::DurableFile;
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;

/// Awaits `saving` and reads the file. The one thread for blocking work does the first thing that
/// `saving` asks of it, and is then busy until the file is read.
async fn read_when_saved<T>(
    path: &Path,
    saving: impl Future<Output = T>,
) -> Result<(T, String), std::io::Error> {
    let (first, until) = sync_channel::<()>(0);
    spawn_blocking(move || until.recv().ok());
    let mut saving = pin!(saving);
    drop(poll!(&mut saving)); // it stands in the queue, behind the first and before the next
    let (_busy, until) = sync_channel::<()>(0);
    spawn_blocking(move || until.recv().ok());
    drop(first);
    let saved = saving.await;
    Ok((saved, read_to_string(path)?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let (path, other) = (folder.path().join("a"), folder.path().join("b"));
    let runtime = Builder::new_current_thread()
        .max_blocking_threads(1)
        .build()?;
    let (saved, read) = runtime.block_on(read_when_saved(&path, save(&path, b"content")))?;
    println!("dropped File:  {saved:?}, and the file holds {read:?}");

    let file = DurableFile::new(&other);
    let (saved, read) = runtime.block_on(read_when_saved(&other, file.replace(b"content")))?;
    println!("durable_write: {saved:?}, and the file holds {read:?}");

    drop(runtime); // waits for what was handed to its threads
    println!(
        "dropped File, once the runtime is gone: {:?}",
        read_to_string(&path)?
    );
    Ok(())
}
