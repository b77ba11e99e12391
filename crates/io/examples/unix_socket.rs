//! cargo run --example unix_socket
//!
//! A server comes back after a crash that left its socket's file behind. A second one is refused, a
//! client is served and known by its user, and the file goes with the server. A path that belongs to
//! something else is left alone.

#[cfg(unix)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::os::unix::fs::MetadataExt;
    use std::{env, fs, num::NonZeroU32, path::Path, time::Duration};

    use io::unix_socket::{Access, bind, connect};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let folder = tempfile::tempdir()?;
    env::set_current_dir(&folder)?; // for short paths, the same on every run
    let (path, limit) = (Path::new("app.sock"), Duration::from_secs(10));
    let backlog = NonZeroU32::MIN.saturating_add(127);
    let serve = |path| bind(path, Access::Owner, backlog);

    drop(std::os::unix::net::UnixListener::bind(path)?); // the standard one leaves its file
    if let Err(error) = connect(path, limit).await {
        println!("client: {error}");
    }

    let server = serve(path).await?;
    let file = fs::metadata(path)?;
    println!(
        "server: has {}, mode {:o}",
        path.display(),
        file.mode() & 0o777
    );
    if let Err(error) = serve(path).await {
        println!("second server: {error}");
    }

    let client = connect(path, limit);
    let (client, accepted) = tokio::join!(client, server.accept());
    let (mut stream, user) = accepted?;
    let owner = user.uid() == file.uid();
    stream
        .write_all(if owner {
            b"hello, owner"
        } else {
            b"hello, guest"
        })
        .await?;
    drop(stream);
    let mut answer = String::new();
    client?.read_to_string(&mut answer).await?;
    println!("client: was told {answer:?}");

    drop(server);
    if let Err(error) = connect(path, limit).await {
        println!("client: {error}");
    }
    fs::write("app.conf", "precious")?;
    if let Err(error) = serve(Path::new("app.conf")).await {
        println!("server: {error}");
    }
    env::set_current_dir("/")?; // or the folder could not be removed
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("this example needs Unix");
}
