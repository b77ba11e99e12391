//! # Dropped file: tokio::fs::File, and no flush
//!
//! `write_all(…).await?`, and the function returns `Ok`. With the `File` of std that means that the
//! system has the bytes. With tokio's it means that a buffer has them, and a thread that is to
//! write them. The file is dropped meanwhile; whether the write succeeds, nobody is left to hear.
//!
//! ## You have it when
//! - the disk was full, the file is short or empty, and the program said that it was saved;
//! - a reader that comes right after the save (a test, a child process, an upload, a rename) now
//!   and then finds the file empty;
//! - the last file is empty if the program ends by `std::process::exit`.
//!
//! ## What it does to you
//! - On a full disk [`save`] returns `Ok`, and not a byte is written.
//! - While the threads for blocking work are busy, the file is empty after `save` has returned.
//! - If the process exits then, it stays empty. At a normal end of `main` it does not: the drop of
//!   the runtime waits for such writes.
//!
//! ## Use instead
//! - `durable_write` for a file that is replaced as a whole: an error is told, and readers see the
//!   old content or the new;
//! - `file.flush().await?` before the end of the function for the rest: the bytes are the system's
//!   then, and the error yours; `async_close` tells if it was forgotten.

use std::io;
use std::path::Path;

use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// Saves the content.
///
/// # Errors
///
/// If the file cannot be made, or an earlier write has failed by the time of a later one.
pub async fn save(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path).await?;
    file.write_all(content).await?; // a thread is told to write it
    Ok(()) // and nobody is told whether it did
}
