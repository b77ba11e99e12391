//! Files that are written whole or not at all, and put back as they were.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use crate::error::{Error, Result};

/// Replaces the file's bytes, or makes the file: a reader sees all of it or nothing.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    // A link stays a link: what is replaced is the file it leads to.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut draft = path.clone().into_os_string();
    draft.push(format!(".{}.new", process::id()));
    let draft = PathBuf::from(draft);
    let write = || -> io::Result<()> {
        let mut file = fs::File::create_new(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if let Ok(metadata) = fs::metadata(&path) {
            fs::set_permissions(&draft, metadata.permissions())?;
        }
        fs::rename(&draft, &path)
    };
    write().map_err(|error| {
        // If it was never made, there is nothing to remove.
        let _gone = fs::remove_file(&draft);
        Error::file("write", &path)(error)
    })
}

/// Files as they were at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
    missing_folders: Vec<PathBuf>,
}

impl Snapshot {
    /// Remembers the file's bytes, or that there is no such file.
    pub(crate) fn remember(&mut self, path: PathBuf) -> Result<()> {
        let bytes = read_if_there(&path).map_err(Error::file("read", &path))?;
        self.files.push((path, bytes));
        Ok(())
    }

    /// Remembers whether there is such a folder.
    pub(crate) fn remember_folder(&mut self, path: PathBuf) {
        if !path.exists() {
            self.missing_folders.push(path);
        }
    }

    /// Puts everything back. Goes on past what it cannot put back, and returns it.
    pub(crate) fn restore(&self) -> Vec<Error> {
        let mut left = Vec::new();
        // What has to go goes first: on a full disk it makes the room for the rest.
        for (path, _) in self.files.iter().filter(|(_, before)| before.is_none()) {
            if path.exists() {
                left.extend(
                    fs::remove_file(path)
                        .map_err(Error::file("remove", path))
                        .err(),
                );
            }
        }
        for (path, before) in &self.files {
            // What has not changed is not touched: it may be on a read-only disk.
            if let Some(bytes) = before
                && fs::read(path).ok().as_ref() != Some(bytes)
            {
                // In place, where there is no room for both.
                let restored = replace(path, bytes)
                    .or_else(|_| fs::write(path, bytes).map_err(Error::file("write", path)));
                left.extend(restored.err());
            }
        }
        for path in self.missing_folders.iter().filter(|path| path.exists()) {
            left.extend(
                fs::remove_dir(path)
                    .map_err(Error::file("remove", path))
                    .err(),
            );
        }
        left
    }
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
