//! # Context: anyhow, from the path to the field
//!
//! "invalid type: string, expected u16" is true and helps nobody: of which field, in which line, of
//! which file? Each layer knows one of these, and says it as the error passes. What arrives at the
//! top can be read by whoever has to mend it, without the source code. Here the layers are those of a
//! configuration file.
//!
//! ## Use it when
//! - an error ends before a person: in a log, on a terminal, in a program's `main`;
//! - a program reads a configuration.
//!
//! ## Use something else when
//! - callers act upon the error: an enum, see `typed_errors`, or a method, see `retryable`;
//! - the file is read again while the program runs: `config_watch`, with [`parse`] to read it.
//!
//! ## Add to your project
//! ```console
//! cargo add anyhow
//! cargo add serde --features derive
//! cargo add serde_path_to_error
//! cargo add tokio --features fs,io-util
//! cargo add toml
//! ```
//!
//! ## Watch out
//! - `{error}` prints the outermost context only. Print `{error:#}`, on one line, or `{error:?}`, a
//!   line for each cause.
//! - Without `deny_unknown_fields` a misspelt field is no error: its default is used.
//! - The message quotes the value that it refuses. A password of the wrong type is in the log then.
//! - `.context(format!(…))` formats also when nothing fails; `.with_context(|| …)` does not.
//! - Who says a thing, and whether its cause says it again, is easily confused: a context names what
//!   this layer tried, never what the cause was.

use std::path::Path;
use std::str;

use anyhow::{Context, Result, anyhow, ensure};
use serde::de::DeserializeOwned;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

/// Reads a configuration in TOML, of at most `largest` bytes, and lets `check` look at it for what
/// its types cannot say.
///
/// # Errors
///
/// Its chain names the path first, then line, column and field, then what is wrong. An error of
/// `check` stands in the place of the latter two.
///
/// # Panics
///
/// If polled outside of a Tokio runtime, or if `check` does.
///
/// # Cancel safety
///
/// Dropped before it is done, nothing is lost: it only reads.
pub async fn load<T: DeserializeOwned>(
    path: impl AsRef<Path>,
    largest: u64,
    check: impl FnOnce(&T) -> Result<()>,
) -> Result<T> {
    let path = path.as_ref();
    let loading = async {
        let bytes = read(path, largest).await?;
        let configuration = parse(&bytes)?;
        check(&configuration)?;
        Ok(configuration)
    };
    let loaded: Result<T> = loading.await;
    loaded.with_context(|| format!("cannot load the configuration {}", path.display()))
}

/// Reads a configuration from the bytes of a file.
///
/// # Errors
///
/// Its chain names line and column, counted from 1 in characters, and the field; then what is wrong.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let place = place(bytes, error.valid_up_to());
        anyhow!(error).context(format!("{place}: not UTF-8"))
    })?;
    let at = |error: &toml::de::Error| place(bytes, error.span().map_or(0, |span| span.start));
    // `toml` would print the line as well, whatever secrets are in it.
    let said = |error: &toml::de::Error| anyhow!(error.message().to_owned());
    let parser = toml::Deserializer::parse(text)
        .map_err(|error| said(&error).context(format!("{}: not TOML", at(&error))))?;
    serde_path_to_error::deserialize(parser).map_err(|error| {
        let field = error.path().to_string();
        let error = error.into_inner();
        let field = if field == "." { "the file" } else { &field };
        said(&error).context(format!("{}: {field}", at(&error)))
    })
}

/// Reads a whole file, unless it is larger than it may be. A device or a pipe may never end.
async fn read(path: &Path, largest: u64) -> Result<Vec<u8>> {
    let file = File::open(path).await?;
    let mut bytes = Vec::new();
    file.take(largest.saturating_add(1))
        .read_to_end(&mut bytes)
        .await?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= largest);
    ensure!(fits, "larger than {largest} bytes: is it the right file?");
    Ok(bytes)
}

/// Line and column of a byte.
fn place(bytes: &[u8], at: usize) -> String {
    let before = bytes.get(..at).unwrap_or(bytes);
    let line = before.split(|byte| *byte == b'\n').count();
    let start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |it| it + 1);
    let column = String::from_utf8_lossy(before.get(start..).unwrap_or_default())
        .chars()
        .count()
        + 1;
    format!("line {line}, column {column}")
}
