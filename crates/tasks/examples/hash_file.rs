//! cargo run --example hash_file
//!
//! Hashes the files of a folder, one after the other: a short one, an empty one, one of a million
//! bytes, and two that cannot be hashed. The digests are the ones that `sha256sum` prints.

use std::error::Error;
use std::fs;
use std::time::Duration;

use tasks::hash_file::{HashFileError, hash_file};
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let name = |name: &str| folder.path().join(name);
    fs::write(name("abc"), "abc")?;
    fs::write(name("empty"), "")?;
    fs::write(name("million"), "a".repeat(1_000_000))?;
    fs::create_dir(name("folder"))?;

    for file in ["abc", "empty", "million", "folder", "missing"] {
        // The time limit drops the future, and that stops the hashing.
        match timeout(Duration::from_secs(60), hash_file(name(file))).await? {
            Ok(digest) => println!("{digest}  {file}"),
            Err(HashFileError::Io { source, .. }) => println!("{file}: {}", source.kind()),
            Err(HashFileError::NotAFile { .. }) => println!("{file}: not a regular file"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
