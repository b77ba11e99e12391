//! cargo run --example fatal_accept
//!
//! Thirty clients, and file descriptors for twenty of them. Each asks in turn, and leaves.

#[cfg(unix)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    use std::{fs::File, num::NonZeroUsize, os::fd::AsRawFd, time::Duration};

    use antipatterns::fatal_accept::serve;
    use io::tcp_server::{self, Limits, echo};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    let limits = Limits {
        connections: NonZeroUsize::MIN.saturating_add(999),
        idle: Duration::from_secs(10),
        write: Duration::from_secs(10),
        lifetime: Duration::from_secs(60),
        drain: Duration::from_secs(1),
    };
    for mended in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut clients = Vec::new();
        for _ in 0..30 {
            clients.push(TcpStream::connect(address).await?);
        }
        let next = File::open("/dev/null")?.as_raw_fd(); // the lowest that is free
        let unlimited = getrlimit(Resource::Nofile);
        let current = u64::try_from(next).ok().map(|next| next + 20);
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current,
                ..unlimited
            },
        )?;

        let stop = CancellationToken::new();
        let _stopped = stop.clone().drop_guard();
        if mended {
            let handle = |stream, _, stop| echo(stream, stop);
            tokio::spawn(tcp_server::serve(listener, limits, stop, handle));
        } else if let Err(error) = serve(listener, move |stream| echo(stream, stop.clone())).await {
            println!("the server ends: {error}");
        }
        let mut answered = 0;
        for mut client in clients {
            let asked = client.write_u8(b'x').await;
            answered += u32::from(asked.is_ok() && client.read_u8().await.is_ok());
        }
        let later = TcpStream::connect(address)
            .await
            .map_err(|error| error.kind());
        println!(
            "{answered} of 30 answered; later: {:?}",
            later.map(|_| "connected")
        );
        setrlimit(Resource::Nofile, unlimited)?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("the number of descriptors is not limited here: run it on Unix");
}
