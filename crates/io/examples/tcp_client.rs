//! cargo run --example tcp_client
//!
//! One connection carries two requests to a server on this host. Then a request too long to be sent,
//! an answer that is cut short, one that is too long and one that never comes: what the client says
//! of each. The last three cost the connection, and the next request has a new one.

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use ::io::tcp_client::{Limits, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    request: Duration::from_secs(1),
    message: NonZeroUsize::MIN.saturating_add(1023),
};

async fn serve(mut client: TcpStream) -> io::Result<()> {
    loop {
        let length = client.read_u32().await?;
        let mut request = vec![0; length as usize];
        client.read_exact(&mut request).await?;
        match request.as_slice() {
            b"hang" => std::future::pending().await,
            b"crash" => return client.write_all(b"\0\0\0\x09half").await,
            b"boast" => client.write_u32(1_000_000).await?,
            _ => {
                request.make_ascii_uppercase();
                client.write_u32(length).await?;
                client.write_all(&request).await?;
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client));
        }
    });
    let long = "long".repeat(1_000);
    let mut client = connect(&address, LIMITS).await?;
    for request in ["hello", "world", &long, "crash", "boast", "hang", "hello"] {
        match client.request(request.as_bytes()).await {
            Ok(answer) => println!("{}", String::from_utf8_lossy(&answer)),
            Err(error) => println!("{error}"),
        }
        if client.get_ref().is_none() {
            client = connect(&address, LIMITS).await?;
        }
    }
    Ok(())
}
