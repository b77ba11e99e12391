//! # Durable write: a new file, synced, renamed over the old
//!
//! A program saves its state, and the machine loses power, or the process is killed half way. What is
//! found afterwards must be the old state or the new one, never the first half of the new one. So the
//! new content goes into a file beside the old, is brought to the disk, and takes the old one's name
//! in a single step.
//!
//! ## Use it when
//! - a file is replaced as a whole: a configuration, an index, a checkpoint, up to some megabytes.
//!
//! ## Use something else when
//! - a file grows by small pieces: append to a log, and call `sync_data` where it must last;
//! - several files must change together, or parts of a large one: a database.
//!
//! ## Add to your project
//! ```console
//! cargo add tempfile
//! cargo add thiserror
//! cargo add tokio --features rt,sync
//! cargo add tokio-util --features rt
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - `fs::write` empties the file before it writes. Killed or out of space in between, it leaves a
//!   beginning.
//! - `tokio::fs::File` writes behind your back: `write_all` returns before the write is done, and an
//!   error of the last write is only told by `flush`. Dropped without it, the file tells nobody: see
//!   `dropped_file`.
//! - A rename without a sync before it may reach the disk before the content does: after a crash of
//!   the machine the file is empty. No test here cuts the power; it is what POSIX leaves open.
//! - Two processes that replace the same file do not harm it, but the last one wins. Within one
//!   process, share the [`DurableFile`].
//! - The new file belongs to whoever runs the program, and hard links go on showing the old one.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::mem;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error as ThisError;
use tokio::sync::{Mutex, oneshot};
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

/// A new file is called `.NAME.`, so many random letters and digits, and this.
const SUFFIX: &str = ".replacing";
const RANDOM: usize = 6;

/// A file that is replaced as a whole. Its clones take turns.
#[derive(Debug, Clone)]
pub struct DurableFile {
    path: Arc<Path>,
    turn: Arc<Mutex<()>>,
}

/// What became of a replacement that failed.
#[derive(Debug, ThisError)]
pub enum ReplaceError {
    /// The file is as it was.
    #[error("cannot replace {path}, which is as it was")]
    Unchanged {
        /// The file.
        path: Box<Path>,
        /// Why not.
        source: io::Error,
    },
    /// The file has the new content, but after a crash of the machine it may have the old.
    #[error("{path} is replaced, but its folder could not be synced: replace it again")]
    NotSynced {
        /// The file.
        path: Box<Path>,
        /// Why not.
        source: io::Error,
    },
    /// The runtime shut down before the work began. The file is as it was.
    #[error("the runtime shuts down: nothing was written")]
    ShutDown,
}

impl DurableFile {
    /// A file at this path, which need not exist; its folder must. A symbolic link stays one: the
    /// file it leads to is replaced.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into().into(),
            turn: Arc::default(),
        }
    }

    /// Replaces the file's content, and returns when it would survive a crash of the machine. Readers
    /// see the old content or the new, whole. The file keeps its permissions; a new one has those
    /// that the process gives to new files.
    ///
    /// # Errors
    ///
    /// [`ReplaceError`], which says whether the file has changed.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime, or if `content.as_ref()` does.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, the file has the old content or **is still being replaced, in the
    /// background**; whole it is in both cases, and a later call waits for the end of it. If that
    /// fails, an event tells.
    pub async fn replace(
        &self,
        content: impl AsRef<[u8]> + Send + 'static,
    ) -> Result<(), ReplaceError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let path = Arc::clone(&self.path);
        let (report, reported) = oneshot::channel();
        let work = spawn_blocking(move || {
            let _turn = turn; // held until the work has ended, whoever waits for it
            report.send(Replaced(replace(&path, content.as_ref()))).ok();
        });
        // The drop of the handle ends only what has not begun.
        let work = AbortOnDropHandle::new(work);
        match reported.await {
            Ok(replaced) => replaced.told(),
            Err(_) => match work.await.map_err(JoinError::try_into_panic) {
                Err(Ok(payload)) => resume_unwind(payload),
                _ => Err(ReplaceError::ShutDown),
            },
        }
    }

    /// Removes what killed processes have left: files beside this one, named `.NAME.XXXXXX.replacing`.
    /// Returns how many. **No other process may be replacing the file meanwhile.**
    ///
    /// # Errors
    ///
    /// The folder cannot be read, or one of the files not removed.
    ///
    /// # Panics
    ///
    /// If polled outside of a Tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has removed some of them, or goes on in the background.
    pub async fn remove_leftovers(&self) -> io::Result<usize> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let path = Arc::clone(&self.path);
        let work = spawn_blocking(move || {
            let _turn = turn;
            remove_leftovers(&path)
        });
        AbortOnDropHandle::new(work).await?
    }
}

/// What became of a replacement, on its way to the caller. If none is left, an event tells of an error.
struct Replaced(Result<(), ReplaceError>);

impl Replaced {
    fn told(mut self) -> Result<(), ReplaceError> {
        mem::replace(&mut self.0, Ok(()))
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        if let Err(error) = &self.0 {
            let error: &dyn Error = error; // with its cause
            tracing::error!(error, "a file was not replaced, and its caller has gone");
        }
    }
}

fn replace(path: &Path, content: &[u8]) -> Result<(), ReplaceError> {
    let written = || -> io::Result<PathBuf> {
        let target = follow(path)?;
        let mut new = create_beside(&target)?;
        new.write_all(content)?;
        new.as_file().sync_all()?;
        new.persist(&target)?;
        Ok(target)
    };
    let path = || Box::from(path);
    let target = written().map_err(|source| ReplaceError::Unchanged {
        path: path(),
        source,
    })?;
    // The name is the folder's content.
    sync_folder(folder_of(&target)).map_err(|source| ReplaceError::NotSynced {
        path: path(),
        source,
    })
}

/// An empty file in the target's folder, with the target's permissions from its first moment on: else
/// who opens it before they are set can read what comes. It is removed when dropped.
fn create_beside(target: &Path) -> io::Result<tempfile::NamedTempFile> {
    let prefix = prefix(target)?;
    let kept = match fs::metadata(target) {
        Ok(old) if old.is_file() => Some(old.permissions()),
        Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).rand_bytes(RANDOM).suffix(SUFFIX);
    #[cfg(unix)]
    builder.permissions(kept.clone().unwrap_or_else(usual)); // less the umask
    let new = builder.tempfile_in(folder_of(target))?;
    if let Some(kept) = kept {
        new.as_file().set_permissions(kept)?; // what the umask has taken
    }
    Ok(new)
}

#[cfg(unix)]
fn usual() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// The file at the end of symbolic links.
fn follow(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        // It may be a link into nowhere: then say so, rather than to replace the link.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            Ok(path.to_owned())
        }
        result => result,
    }
}

/// What stands before the random part of a new file's name.
fn prefix(target: &Path) -> io::Result<OsString> {
    let name = target.file_name();
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is no file"))?;
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    Ok(prefix)
}

fn remove_leftovers(path: &Path) -> io::Result<usize> {
    let target = follow(path)?;
    let prefix = prefix(&target)?;
    let mut removed = 0;
    for entry in fs::read_dir(folder_of(&target))? {
        let entry = entry?;
        let name = entry.file_name();
        let (name, prefix) = (name.as_encoded_bytes(), prefix.as_encoded_bytes());
        let middle = name.strip_prefix(prefix);
        let middle = middle.and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
        let is_random = |it: &[u8]| it.len() == RANDOM && it.iter().all(u8::is_ascii_alphanumeric);
        if middle.is_some_and(is_random) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Windows syncs no folders.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
