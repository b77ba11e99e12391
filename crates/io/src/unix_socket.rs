//! # Unix socket: one server at a path
//!
//! `UnixListener::bind` leaves its file behind, and after a crash it fails since the file is there.
//! Code that always removes the file first takes the path from a living server. Here what a dead
//! server left is replaced, and nothing else; only those you permit can connect, from the first
//! moment; and the file goes with the listener.
//!
//! ## Use it when
//! - client and server are on one machine, and the file's permissions say who may connect.
//!
//! ## Use something else when
//! - clients come from other machines: `tcp_server`, whose accept loop serves this listener, too.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features net,time
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - Use a folder that only the server's user can write to. Who else can might replace its file.
//! - A file `<path>.lock` stays. Leave it there: its lock decides between servers that start at once.
//! - Other kinds of servers do not know the lock, and are found by connecting to them: one that does
//!   not listen yet is taken for dead, and so is, except on Linux, one whose queue is full.
//! - A client is connected once it is in the queue. Only an answer shows that it was accepted.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::SocketAddr;
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::time::{sleep, timeout};

const PATHS: &str = "use 1 to 107 bytes (103 on macOS), none of them zero, or a relative path";

/// A server's end. Dropping it removes the socket's file, if it is still the one that was made, and
/// resets the clients that wait to be accepted.
#[derive(Debug)]
pub struct Listener {
    _file: SocketFile, // for what its drop does
    listener: UnixListener,
}

/// Why there is no listener.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another server has the path.
    #[error("a server runs at {0}: stop it, or use another path")]
    AlreadyServed(PathBuf),
    /// There is a file, a folder or a symbolic link at the path. It was left alone.
    #[error("{0} is no socket and was left alone: use another path, or remove it")]
    NotASocket(PathBuf),
    /// The path's folder does not exist.
    #[error("no folder for {0}: create it, for the server's user only (mode 700)")]
    NoFolder(PathBuf),
    /// A socket cannot have this path.
    #[error("a socket cannot be at {0:?}: {PATHS}")]
    BadPath(PathBuf),
    /// Something else failed.
    #[error("cannot use {0} or its lock: {1}; check whose they are, and their folder")]
    Io(PathBuf, io::Error),
}

/// Why there is no connection.
#[derive(Debug, Error)]
#[error("cannot connect to {path:?}: {error}; {}", remedy(error.kind()))]
pub struct ConnectError {
    /// The path asked for.
    pub path: PathBuf,
    /// `NotFound`: no file. `ConnectionRefused`: nobody listens, or, except on Linux, its queue is
    /// full. `TimedOut`: the queue stayed full.
    pub error: io::Error,
}

/// Listens at `path`, whose file gets the `permissions`: with mode `600` the server's user alone can
/// connect, with `660` the file's group as well. Root always can.
///
/// A socket's file that nobody listens at is replaced, which is logged. To find out, this connects to
/// it: a living server of another kind sees a client that leaves at once.
///
/// # Errors
///
/// [`BindError`], which says what to do.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without I/O.
///
/// # Cancel safety
///
/// Dropped before it is done, it listens nowhere and has removed nothing.
pub async fn bind(path: &Path, permissions: Permissions) -> Result<Listener, BindError> {
    let failed = |error: io::Error| match error.kind() {
        // The lock is held, a living server's queue is full, or one of another kind has come just now.
        ErrorKind::WouldBlock | ErrorKind::AddrInUse => BindError::AlreadyServed(path.into()),
        ErrorKind::NotFound | ErrorKind::NotADirectory => BindError::NoFolder(path.into()),
        ErrorKind::InvalidInput => BindError::BadPath(path.into()),
        _ => BindError::Io(path.into(), error),
    };
    SocketAddr::from_pathname(path).map_err(failed)?;
    refuse_other_files(path)?; // before a lock is put beside one
    let absolute = path::absolute(path).map_err(failed)?;
    // Held as long as the listener. The kernel frees it when the process dies, however it dies.
    let lock = File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(absolute.with_added_extension("lock"))
        .map_err(failed)?;
    lock.try_lock().map_err(|error| failed(error.into()))?;
    match UnixStream::connect(path).await {
        Ok(_) => return Err(BindError::AlreadyServed(path.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            refuse_other_files(path)?; // again, since these refuse a connection as well
            fs::remove_file(path).map_err(failed)?;
            tracing::info!(path = %absolute.display(), "replaced a dead server's socket");
        }
        Err(error) => return Err(failed(error)),
    }
    let socket = UnixSocket::new_stream().map_err(failed)?;
    socket.bind(path).map_err(failed)?;
    let _file = SocketFile {
        made: fs::symlink_metadata(path).map_err(failed)?,
        path: absolute,
        lock,
    };
    // Nobody can connect before `listen`, so nobody does before these are set.
    fs::set_permissions(path, permissions).map_err(failed)?;
    let listener = socket.listen(1024).map_err(failed)?; // as many wait, if the system lets them
    Ok(Listener { _file, listener })
}

impl Listener {
    /// The listener itself, to accept from.
    pub fn get_ref(&self) -> &UnixListener {
        &self.listener
    }
}

/// Connects to the server at `path`. On Linux, waits up to `limit` for a place in its queue; others
/// refuse a client for which there is none.
///
/// # Errors
///
/// [`ConnectError`], which says what to do.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without I/O or timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it has no connection; the server may see a client that leaves at once.
pub async fn connect(path: &Path, limit: Duration) -> Result<UnixStream, ConnectError> {
    let connected = timeout(limit, async {
        loop {
            match UnixStream::connect(path).await {
                // The queue is full. No event tells when it no longer is.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sleep(Duration::from_millis(10)).await;
                }
                done => return done,
            }
        }
    });
    connected
        .await
        .unwrap_or_else(|late| Err(late.into()))
        .map_err(|error| ConnectError {
            path: path.into(),
            error,
        })
}

/// Removes the file, if it is still the one that was made, and frees the path for another server.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    made: Metadata,
    lock: File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let removed = fs::symlink_metadata(&self.path).and_then(|found| {
            // No other file has the same two while the listener lives.
            if (found.dev(), found.ino()) != (self.made.dev(), self.made.ino()) {
                return Err(io::Error::other("there is another file in its place"));
            }
            fs::remove_file(&self.path)
        });
        if let Err(error) = removed {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
        // Closing alone would leave it to a child process that is just being started.
        self.lock.unlock().ok(); // if it fails, closing does it
    }
}

fn refuse_other_files(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(BindError::NotASocket(path.into())),
        _ => Ok(()), // what fails here fails at the next step, too
    }
}

fn remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "start the server, or correct the path",
        ErrorKind::ConnectionRefused if cfg!(target_os = "linux") => {
            "nobody listens: start the server again"
        }
        ErrorKind::ConnectionRefused => "nobody listens, or its queue is full: see the server",
        ErrorKind::PermissionDenied => "run as its owner, or let the server permit more",
        ErrorKind::TimedOut => "its queue is full: see why the server accepts nobody",
        ErrorKind::InvalidInput => PATHS,
        _ => "check that this is a stream server's socket",
    }
}
