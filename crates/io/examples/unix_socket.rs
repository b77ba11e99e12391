//! cargo run --example unix_socket
//!
//! A server comes back after a crash that left its socket's file behind. A second one is refused, a
//! client is served, and the file goes with the server. A path that belongs to something else is left
//! alone.

#[cfg(unix)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::os::unix::fs::PermissionsExt;
    use std::{env, fs, path::Path, time::Duration};

    use io::unix_socket::{bind, connect};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let folder = tempfile::tempdir()?;
    env::set_current_dir(&folder)?; // for a short path, the same on every run
    let (path, limit) = (Path::new("app.sock"), Duration::from_secs(10));
    let mine = || fs::Permissions::from_mode(0o600);

    drop(std::os::unix::net::UnixListener::bind(path)?); // leaves its file, as a crash does
    if let Err(error) = connect(path, limit).await {
        println!(
            "client: {:?}, the server must be started",
            error.error.kind()
        );
    }

    let server = bind(path, mine()).await?;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    println!("server: listens at {}, mode {mode:o}", path.display());
    if let Err(error) = bind(path, mine()).await {
        println!("second server: {error}");
    }

    let mut client = connect(path, limit).await?;
    let (mut served, _) = server.get_ref().accept().await?;
    served.write_all(b"hello").await?;
    drop(served);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await?;
    println!("client: {answer}");

    drop(server);
    println!("server: is gone; its file exists: {}", path.exists());

    fs::write("app.conf", "precious")?;
    if let Err(error) = bind(Path::new("app.conf"), mine()).await {
        println!("server: {error}");
    }
    env::set_current_dir("/")?; // so that the folder can be removed
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("there are no Unix sockets here: run it on Unix");
}
