//! cargo run --example retry_http
//!
//! A server on this machine is busy twice, breaks off an answer in the middle, and then answers. A
//! page that is not there is asked for once.

use std::error::Error;
use std::num::NonZeroU32;
use std::time::Duration;

use retry::retry_http::{Limits, Policy, client, send};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(2),
    answer: Duration::from_secs(5),
};
const POLICY: Policy = Policy {
    base: Duration::from_millis(20),
    cap: Duration::from_secs(2),
    tries: NonZeroU32::MIN.saturating_add(4),
    total: Duration::from_secs(20),
    longest_body: 1 << 20,
};

/// Answers each request with the next of these, and closes the connection.
async fn serve(listener: TcpListener) -> std::io::Result<()> {
    for answer in [
        "503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n",
        "429 Too Many Requests\r\ncontent-length: 0\r\n\r\n",
        "200 OK\r\ncontent-length: 12\r\n\r\nhello",
        "200 OK\r\ncontent-length: 12\r\n\r\nhello, world",
        "404 Not Found\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (stream, _) = listener.accept().await?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let status = answer.lines().next().unwrap_or_default();
        println!("the server hears {:?} and says {status}", line.trim());
        while line.trim() != "" {
            line.clear();
            stream.read_line(&mut line).await?;
        }
        let answer = format!("HTTP/1.1 {answer}");
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut Vec::new()).await.ok(); // until the client has closed, too
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(serve(listener));
    // One client for all requests. A proxy that the environment names would not find this server.
    let client = client(LIMITS).no_proxy().build()?;
    for page in ["hello", "lost"] {
        let request = client.get(format!("http://{address}/{page}")).build()?;
        let answer = send(&client, &request, &POLICY).await?;
        println!("{page}: {} {:?}", answer.status, answer.body);
    }
    server.await??;
    Ok(())
}
