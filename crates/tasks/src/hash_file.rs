//! # Hash a file: SHA-256 on spawn_blocking
//!
//! Hashing a file is all reading and computing, the longer the larger the file. Done in an async
//! function it holds the thread, and every task on it, until the end; so it belongs on a thread
//! that may block. There nothing can interrupt it from outside, so it looks for itself, once for
//! each chunk, whether anybody still waits for the digest.
//!
//! ## Use it when
//! - a file of any size is to be hashed, checked or compared from async code;
//! - you need the pattern for any long blocking loop: stream, and look at a flag on each turn.
//!
//! ## Use something else when
//! - the data is in memory already, or comes from a socket: `cpu_offload`, or hash it as it comes;
//! - many files at once: call this one through `spawn_batch`, which limits the threads.
//!
//! ## Add to your project
//! ```console
//! cargo add sha2
//! cargo add thiserror
//! cargo add tokio --features rt
//! cargo add tokio-util
//! ```
//!
//! ## Watch out
//! - Hashing right in an async function gives no other task of that thread a turn until the end.
//! - `abort` does not stop a blocking task that has begun, and dropping its handle does not either.
//! - Each call needs a thread of its own while it runs: twenty calls, twenty threads, up to the
//!   runtime's `max_blocking_threads` (512 if nobody set it), as in `unbounded_spawn_blocking`.
//! - Opening a named pipe waits until somebody writes to it, and no flag is looked at meanwhile. So
//!   whatever is no regular file is refused before it is opened.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;

/// Bytes read at a time: all the memory a file takes, and the most that is hashed in vain once
/// nobody waits for the digest.
pub const CHUNK: usize = 64 * 1024;

/// A SHA-256 digest. Displayed in hexadecimal, as `sha256sum` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Sum(pub [u8; 32]);

/// Why a file has no digest.
#[derive(Debug, Error)]
pub enum HashFileError {
    /// It is not there, may not be read, or failed while it was read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a directory, a pipe, a socket or a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// The runtime shut down before the hashing began, or the hashing panicked.
    #[error("the task that hashes {} did not end", path.display())]
    Task {
        /// The file.
        path: PathBuf,
        /// What the runtime said.
        source: JoinError,
    },
}

/// Reads the file at `path` to its end, on a thread that may block, and returns its digest.
///
/// # Errors
///
/// [`HashFileError`], which names the path.
///
/// # Panics
///
/// If polled outside of a Tokio runtime.
///
/// # Cancel safety
///
/// Dropped before it is done, it stops the hashing at the next chunk; the digest so far is lost.
pub async fn hash_file(path: impl Into<PathBuf>) -> Result<Sha256Sum, HashFileError> {
    let path = path.into();
    let stop = CancellationToken::new();
    let _stop_when_dropped = stop.clone().drop_guard();
    let file = path.clone();
    let digest = spawn_blocking(move || digest(file, &stop)).await;
    digest.map_err(|source| HashFileError::Task { path, source })?
}

fn digest(path: PathBuf, stop: &CancellationToken) -> Result<Sha256Sum, HashFileError> {
    match fs::metadata(&path) {
        Ok(metadata) if !metadata.is_file() => Err(HashFileError::NotAFile { path }),
        Ok(_) => digest_chunks(&path, stop).map_err(|source| HashFileError::Io { path, source }),
        Err(source) => Err(HashFileError::Io { path, source }),
    }
}

fn digest_chunks(path: &Path, stop: &CancellationToken) -> io::Result<Sha256Sum> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK];
    let mut hasher = Sha256::new();
    while !stop.is_cancelled() {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(Sha256Sum(hasher.finalize().into())),
            Ok(length) => hasher.update(chunk.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {} // by a signal: read again
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("nobody waits for the digest")) // and so nobody reads this
}

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
