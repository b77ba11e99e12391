//! What can go wrong, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command could not do its work. Each message says what to do next.
#[derive(Debug, Error)]
pub enum Error {
    /// Neither the folder, nor one above it, nor the folder this was built from is a cookbook.
    #[error("no cookbook at {} or above it: go to a clone of the cookbook", .0.display())]
    NoCookbook(PathBuf),
    /// No section, recipe or program has this name.
    #[error("no {sought} is called `{name}`{}", did_you_mean(nearest))]
    UnknownName {
        /// What was looked for: "recipe", "section".
        sought: &'static str,
        /// As it was given.
        name: String,
        /// The names most like it, the most alike first.
        nearest: Vec<String>,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// "read", "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason it gave.
        source: io::Error,
    },
    /// A file of the catalogue holds something other than text.
    #[error("{} is not UTF-8: save it as UTF-8", .0.display())]
    NotUtf8(PathBuf),
    /// Output could not be written. A closed pipe is the reader's right, not a failure.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// A program could not be started or waited for.
    #[error("cannot run {program}: {source}")]
    Spawn {
        /// What was to run.
        program: String,
        /// The reason the system gave.
        source: io::Error,
    },
    /// The recipe shows what not to do.
    #[error("`{name}` shows what not to do and is not for copying{}", match mended_by {
        Some(cure) => format!(": `{cure}` does the same job safely, copy that"),
        None => format!(": `cargo cookbook show {name}` says why"),
    })]
    Harmful {
        /// The recipe.
        name: String,
        /// The recipe that its file names as the cure.
        mended_by: Option<String>,
    },
    /// The place to copy to will not do, for the reason and with the advice given.
    #[error("cannot copy to {}: {reason}", folder.display())]
    Target {
        /// Where the copy was to go.
        folder: PathBuf,
        /// What is wrong with it and how to mend it.
        reason: String,
    },
    /// A line under "Add to your project" is not a plain `cargo add`.
    #[error("{file}: `{line}` is not a plain `cargo add` line: write words without shell syntax")]
    NotPlain {
        /// The recipe's file.
        file: String,
        /// The line.
        line: String,
    },
    /// A cargo command failed.
    #[error("`{command}` failed{}", match stderr.trim_end() {
        "" => String::new(),
        text => format!(":\n{text}"),
    })]
    Cargo {
        /// As one would type it.
        command: String,
        /// What it said.
        stderr: String,
    },
    /// Something failed, and so did putting things back.
    #[error(
        "{cause}\nand putting things back failed too, look at these yourself: {}",
        list(left)
    )]
    NotRestored {
        /// The first failure.
        cause: Box<Error>,
        /// The files that are not as they were, each with the reason.
        left: Vec<Error>,
    },
    /// Ctrl-C; everything that was started has been stopped, everything changed put back.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// An [`Error::File`], to be given to `map_err`.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    /// What the process exits with: 1 failed, 2 called wrongly, 130 interrupted.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::UnknownName { .. } => 2,
            Self::Interrupted => 130,
            _ => 1,
        }
    }

    /// Whether the reader of the output has gone, as `head` does when it has seen enough.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn did_you_mean(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return ": `cargo cookbook list` names them all".to_owned();
    }
    let names: Vec<_> = nearest.iter().map(|name| format!("`{name}`")).collect();
    format!("; did you mean {}?", names.join(" or "))
}

fn list(errors: &[Error]) -> String {
    let lines: Vec<_> = errors.iter().map(|error| format!("\n  {error}")).collect();
    lines.concat()
}
