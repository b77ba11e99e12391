//! cargo run --example one_read_one_message
//!
//! A server's answers come in parts, as they do over a network. Two clients ask it twice: one takes
//! a read for an answer, the other reads until the answer is whole. The clock is virtual.

use std::error::Error;
use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use ::io::tcp_client::{Client, Limits};
use antipatterns::one_read_one_message::ask;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::sleep;

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    request: Duration::from_secs(5),
    message: NonZeroUsize::MIN.saturating_add(9_999),
};

/// Answers each question of four letters in parts, ten milliseconds apart.
async fn serve(mut client: DuplexStream, framed: bool) -> io::Result<()> {
    for answer in ["the price of rent is 1000", "the price of food is 7"] {
        let mut question = vec![0; if framed { 4 + 4 } else { 4 }];
        client.read_exact(&mut question).await?;
        let length = u32::try_from(answer.len()).map_err(io::Error::other)?;
        let header = if framed {
            &length.to_be_bytes()[..]
        } else {
            b""
        };
        for part in [header, answer.as_bytes()].concat().chunks(22) {
            client.write_all(part).await?;
            sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut server, far) = duplex(1024);
    tokio::spawn(serve(far, false));
    for question in ["rent", "food"] {
        println!(
            "one read:   {question}? {:?}",
            ask(&mut server, question).await?
        );
    }
    let (server, far) = duplex(1024);
    tokio::spawn(serve(far, true));
    let mut client = Client::new(server, LIMITS);
    for question in ["rent", "food"] {
        let answer = client.request(question.as_bytes()).await?;
        println!(
            "tcp_client: {question}? {:?}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(())
}
