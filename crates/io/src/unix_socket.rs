//! # Unix socket: one server at a path
//!
//! `UnixListener::bind` leaves its file behind. After a crash it fails with "address in use" until
//! somebody removes the file, and code that always removes it first takes the path from a server that
//! lives. This listener replaces what a dead server left and nothing else, lets in whom you say from
//! the first moment, and removes its file when it is dropped.
//!
//! ## Use it when
//! - client and server are on one machine: an agent, a control port, a database's local clients;
//! - the server should know as which user a client runs, without passwords.
//!
//! ## Use something else when
//! - clients come from other machines: `tcp_server`, whose accept loop with its limits serves this
//!   listener too;
//! - the program must also run elsewhere than on Unix.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! cargo add tokio --features net,rt,time
//! cargo add tracing
//! ```
//!
//! ## Watch out
//! - Use a folder that only the server's user can write to. Who can write there can put a socket of
//!   his own in the place of yours.
//! - A file `<path>.lock` stays. Leave it there: its lock decides between servers that start at once.
//! - The lock is known to servers that use this recipe. Another kind of server is found by connecting
//!   to it: one that has bound its path, and does not listen yet, is taken for dead.
//! - A client is connected once it is in the queue, before anybody accepts it. Only an answer shows
//!   that it is served.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::num::NonZeroU32;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::SocketAddr;
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::time::{sleep, timeout};

/// After the first attempt to connect that found the queue full. Each further pause is twice the one
/// before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Who may connect. Root always may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The user that the server runs as: mode `600`.
    Owner,
    /// That user, and the file's group: mode `660`.
    Group,
    /// Everybody who can reach the folder: mode `666`.
    Everyone,
}

/// A server's end. Dropping it removes the socket's file, unless another file has taken its place,
/// and resets the clients that wait to be accepted.
#[derive(Debug)]
pub struct Listener {
    file: SocketFile, // goes first, so that a client finds no file rather than a dead one
    listener: UnixListener,
}

/// Why there is no listener.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another server has the path.
    #[error("a server runs at {}: stop it, or use another path", .0.display())]
    AlreadyServed(PathBuf),
    /// There is a file, a folder or a symbolic link at the path. It was left alone.
    #[error("{} is no socket and was left alone: use another path, or remove it", .0.display())]
    NotASocket(PathBuf),
    /// Something failed.
    #[error("cannot {action} {}: {error}; {}", .path.display(), remedy(error))]
    Io {
        /// The path asked for.
        path: PathBuf,
        /// What was being done to it.
        action: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

/// Why there is no connection.
#[derive(Debug, Error)]
#[error("cannot connect to {}: {error}; {}", .path.display(), remedy(error))]
pub struct ConnectError {
    /// The server's path.
    pub path: PathBuf,
    /// What the system says: `NotFound` without a file, `ConnectionRefused` where a dead server left
    /// one. `TimedOut` at the limit.
    pub error: io::Error,
}

/// Listens at `path`. Up to `backlog` clients wait to be accepted, or as many as the system allows
/// (`net.core.somaxconn` on Linux).
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
pub async fn bind(path: &Path, access: Access, backlog: NonZeroU32) -> Result<Listener, BindError> {
    check(path).map_err(failed(path, "listen at"))?;
    socket_at(path)?; // before a lock is put beside what is no socket
    let absolute = path::absolute(path).map_err(failed(path, "find"))?;
    // Held as long as the listener. The kernel frees it when the process dies, however it dies.
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(absolute.with_added_extension("lock"))
        .map_err(failed(path, "open the lock beside"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(BindError::AlreadyServed(path.into())),
        Err(TryLockError::Error(error)) => return Err(failed(path, "lock")(error)),
    }
    if socket_at(path)? {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            // Its queue is full, so it lives.
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                return Err(failed(path, "tell whether a server lives at")(error));
            }
            _ => return Err(BindError::AlreadyServed(path.into())),
        }
        // Asked again, since anything that is no socket refuses a connection as well.
        if socket_at(path)? {
            fs::remove_file(path).map_err(failed(path, "remove the dead server's"))?;
            tracing::info!(path = %absolute.display(), "replaced a dead server's socket");
        }
    }
    let socket = UnixSocket::new_stream().map_err(failed(path, "make a socket for"))?;
    socket.bind(path).map_err(failed(path, "bind"))?;
    let identity = identity(path).map_err(failed(path, "look at"))?;
    let file = SocketFile {
        path: absolute,
        identity,
        lock,
    };
    // Nobody can connect before `listen`, so nobody does before the mode is right. The process's
    // umask could do it too, but other threads make files meanwhile.
    fs::set_permissions(path, Permissions::from_mode(access.mode()))
        .map_err(failed(path, "set the mode of"))?;
    let listener = socket
        .listen(backlog.get())
        .map_err(failed(path, "listen at"))?;
    Ok(Listener { file, listener })
}

impl Listener {
    /// Waits for the next client. The kernel vouches for its user, group and process, as they were
    /// when it connected.
    ///
    /// # Errors
    ///
    /// Those of `accept`: most often there are no file descriptors left. Pause before the next try.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has accepted nobody: the next call gets the client.
    pub async fn accept(&self) -> io::Result<(UnixStream, UCred)> {
        let (stream, _) = self.listener.accept().await?;
        let client = stream.peer_cred()?;
        Ok((stream, client))
    }

    /// Where it listens, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

/// Connects to the server at `path`. Waits up to `limit` for a place in its queue.
///
/// # Errors
///
/// [`ConnectError`], which tells a server that is gone from one that has never been there.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or in one without I/O or timers.
///
/// # Cancel safety
///
/// Dropped before it is done, it has no connection; the server may see a client that leaves at once.
pub async fn connect(path: &Path, limit: Duration) -> Result<UnixStream, ConnectError> {
    let connecting = async {
        check(path)?;
        let mut pause = FIRST_PAUSE;
        loop {
            match UnixStream::connect(path).await {
                // The queue is full. The socket is never ready for this, so there is no waking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(pause).await,
                done => return done,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    let connected = timeout(limit, connecting).await;
    let connected = connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    connected.map_err(|error| ConnectError {
        path: path.into(),
        error,
    })
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
            Self::Everyone => 0o666,
        }
    }
}

/// Removes the file, if it is still the one that was made, and frees the path for another server.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    lock: File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path = self.path.display();
        match identity(&self.path) {
            Ok(found) if found == self.identity => {
                if let Err(error) = fs::remove_file(&self.path) {
                    tracing::warn!(%path, %error, "cannot remove the socket");
                }
            }
            Ok(_) => tracing::warn!(%path, "left the socket's path to another file"),
            Err(error) => tracing::warn!(%path, %error, "the socket is gone"),
        }
        // Closing alone would leave it to a child process that is just being started.
        self.lock.unlock().ok(); // if it fails, closing does it
    }
}

/// What a file keeps when it is renamed, and no other file has meanwhile.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Whether there is a socket. An error if there is something else.
fn socket_at(path: &Path) -> Result<bool, BindError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(true),
        Ok(_) => Err(BindError::NotASocket(path.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(path, "look at")(error)),
    }
}

/// Refuses what the system would, and also an empty path and one that begins with a zero, which are
/// no files on Linux.
fn check(path: &Path) -> io::Result<()> {
    match SocketAddr::from_pathname(path) {
        Ok(address) if !address.is_unnamed() => Ok(()),
        _ => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "a socket's path has 1 to 107 bytes (103 on BSD and macOS), none of them zero",
        )),
    }
}

fn failed<'p>(path: &'p Path, action: &'static str) -> impl FnOnce(io::Error) -> BindError + 'p {
    move |error| BindError::Io {
        path: path.into(),
        action,
        error,
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ConnectionRefused => "its server is dead, start it again",
        ErrorKind::InvalidInput => "take another, or a relative one",
        ErrorKind::NotFound => "correct the path, create its folder, or start the server",
        ErrorKind::PermissionDenied => "run as its owner, or give the server a wider Access",
        ErrorKind::TimedOut => "the server accepts too slowly, or raise the limit",
        _ => "look at the path and its folder",
    }
}
