//! Copying a recipe into a project: all of it, or nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::catalog::{Catalog, Recipe};
use crate::error::{Error, Result};
use crate::files::{self, Snapshot};
use crate::process::{self, End, Interrupt, Typed};

/// A copy that is about to be made: everything that can be refused has been looked at.
#[derive(Debug)]
pub struct Copy {
    source: String,
    /// The file that the recipe becomes.
    pub file: PathBuf,
    /// The line that makes it part of the crate.
    pub mod_line: String,
    /// Where that line belongs, as far as the folder tells.
    pub mod_file: PathBuf,
    /// The arguments of the cargo commands to run first.
    additions: Vec<Vec<String>>,
    manifest: PathBuf,
    lock_file: PathBuf,
}

/// How a recipe is copied.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyOptions {
    /// Overwrite the file if it is there.
    pub force: bool,
    /// Let cargo use only what it has downloaded before.
    pub offline: bool,
}

impl Copy {
    /// Looks at everything that stands in the way of copying `recipe` into the package in `folder`,
    /// and changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Harmful`], [`Error::NotPlain`] or [`Error::Target`] where the recipe or the folder
    /// will not do; [`Error::Interrupted`].
    pub fn plan(
        catalog: &Catalog,
        recipe: &Recipe,
        folder: &Path,
        options: CopyOptions,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let source = catalog.read(&recipe.source)?;
        if recipe.is_harmful() {
            let mended_by = catalog.cure(recipe)?.map(|cure| cure.name.clone());
            return Err(Error::Harmful {
                name: recipe.name.clone(),
                mended_by,
            });
        }
        let refuse = |reason: String| Error::Target {
            folder: folder.to_owned(),
            reason,
        };
        let manifest = folder.join("Cargo.toml");
        if !manifest.is_file() {
            return Err(refuse(
                "no Cargo.toml there: give a package with --to DIR, or make one with `cargo init`"
                    .into(),
            ));
        }
        let manifest = fs::canonicalize(&manifest).map_err(Error::file("read", &manifest))?;
        let metadata =
            Metadata::of(&manifest, interrupt).map_err(|error| refuse(error.to_string()))?;
        let is_it = |package: &Package| {
            fs::canonicalize(&package.manifest_path).is_ok_and(|path| path == manifest)
        };
        if !metadata.packages.iter().any(is_it) {
            return Err(refuse(
                "a workspace without a package of its own: give one of its members with --to DIR"
                    .into(),
            ));
        }
        let same = |a: &Path, b: &Path| fs::canonicalize(a).ok() == fs::canonicalize(b).ok();
        if same(&metadata.workspace_root, &catalog.root) {
            return Err(refuse(
                "that is the cookbook itself: give your own package with --to DIR".into(),
            ));
        }
        let src = folder.join("src");
        if src.exists() && !src.is_dir() {
            return Err(refuse(
                "its src is not a folder: move that file away".into(),
            ));
        }
        let file = src.join(format!("{}.rs", recipe.name));
        if file.is_dir() || file.exists() && !options.force {
            let reason = format!(
                "src/{}.rs is there already: --force overwrites a file",
                recipe.name
            );
            return Err(refuse(reason));
        }
        let main_only = src.join("main.rs").exists() && !src.join("lib.rs").exists();
        let mod_file = src.join(if main_only { "main.rs" } else { "lib.rs" });
        let mut additions = Vec::new();
        for line in &recipe.cargo_add {
            let words = plain_words(line);
            let not_plain = || Error::NotPlain {
                file: recipe.source.clone(),
                line: line.clone(),
            };
            let mut words = words.ok_or_else(not_plain)?;
            words.extend(options.offline.then(|| "--offline".to_owned()));
            additions.push(words);
        }
        Ok(Self {
            source,
            file,
            mod_line: format!("mod {};", recipe.name),
            mod_file,
            additions,
            lock_file: metadata.workspace_root.join("Cargo.lock"),
            manifest,
        })
    }

    /// The cargo commands that it takes, as one would type them.
    pub fn commands(&self) -> impl Iterator<Item = String> {
        self.additions
            .iter()
            .map(|words| Typed(&self.command(words)).to_string())
    }

    /// Makes the copy. If anything fails, or the interrupt comes, everything is put back as it was:
    /// the manifests, the lock file and the source.
    ///
    /// # Errors
    ///
    /// [`Error::Cargo`] if an addition fails, [`Error::File`] if a file cannot be written,
    /// [`Error::Interrupted`]; [`Error::NotRestored`] if something could not be put back.
    pub fn make(&self, interrupt: &Interrupt) -> Result<()> {
        let mut before = Snapshot::default();
        before.remember(self.manifest.clone())?;
        before.remember(self.lock_file.with_file_name("Cargo.toml"))?;
        before.remember(self.lock_file.clone())?;
        before.remember(self.file.clone())?;
        let src = self.file.parent().unwrap_or(&self.file);
        before.remember_folder(src.to_owned());
        let make = || {
            for words in &self.additions {
                cargo(self.command(words), interrupt)?;
            }
            fs::create_dir_all(src).map_err(Error::file("make", src))?;
            files::replace(&self.file, self.source.as_bytes())?;
            interrupt.check()
        };
        make().map_err(|cause| match before.restore() {
            left if left.is_empty() => cause,
            left => Error::NotRestored {
                cause: Box::new(cause),
                left,
            },
        })
    }

    fn command(&self, words: &[String]) -> Command {
        let mut command = process::cargo();
        command
            .args(words)
            .arg("--manifest-path")
            .arg(&self.manifest);
        command
    }
}

/// The words after `cargo`, if the line is nothing but plain words.
fn plain_words(line: &str) -> Option<Vec<String>> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./,@=+:".contains(c);
    let words: Vec<_> = line.split_whitespace().collect();
    let ["cargo", "add", rest @ ..] = words.as_slice() else {
        return None;
    };
    let allowed = |word: &&str| word.chars().all(is_plain) && !word.starts_with("--manifest-path");
    let is_allowed = !rest.is_empty() && rest.iter().all(allowed);
    is_allowed.then(|| {
        words
            .iter()
            .skip(1)
            .map(|word| (*word).to_owned())
            .collect()
    })
}

/// Runs a cargo command; an error if it fails. Returns what it printed.
fn cargo(mut command: Command, interrupt: &Interrupt) -> Result<Vec<u8>> {
    let typed = Typed(&command).to_string();
    command.stderr(Stdio::piped());
    let finished = process::run(command, None, interrupt, |_| Ok(()))?;
    match finished.end {
        End::Exited(status) if status.success() => Ok(finished.stdout),
        End::Interrupted => Err(Error::Interrupted),
        _ => {
            let stderr = String::from_utf8_lossy(&finished.stderr).into_owned();
            Err(Error::Cargo {
                command: typed,
                stderr,
            })
        }
    }
}

/// What cargo says of the workspace that a package belongs to.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
}

impl Metadata {
    fn of(manifest: &Path, interrupt: &Interrupt) -> Result<Self> {
        let mut command = process::cargo();
        command
            .args([
                "metadata",
                "--no-deps",
                "--format-version=1",
                "--manifest-path",
            ])
            .arg(manifest);
        let typed = Typed(&command).to_string();
        let json = cargo(command, interrupt)?;
        let not_json = |error: serde_json::Error| Error::Cargo {
            command: typed,
            stderr: error.to_string(),
        };
        serde_json::from_slice(&json).map_err(not_json)
    }
}
