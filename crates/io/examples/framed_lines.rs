//! cargo run --example framed_lines
//!
//! A server that answers each line in capitals, and a client that sends it good and bad ones over
//! TCP. The bad lines are answered too, and the good ones behind them are not lost.

use std::io;
use std::num::NonZeroUsize;

use ::io::framed_lines::{LineError, SendLineError, framed_lines, read_lines};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

async fn serve(stream: TcpStream) -> Result<(), SendLineError> {
    let mut lines = framed_lines(stream, LIMIT);
    while let Some(line) = lines.try_next().await? {
        let answer = match line {
            Ok(line) => line.to_uppercase(),
            Err(LineError::Unterminated(start)) => format!("error: {start:?} has no end"),
            Err(error) => format!("error: {error}"),
        };
        lines.send(answer).await?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), SendLineError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let mut client = TcpStream::connect(listener.local_addr()?).await?;
    let (stream, _) = listener.accept().await?;
    let server = tokio::spawn(serve(stream));

    let (answers, mut requests) = client.split();
    let long = vec![b'x'; 1_000_000];
    let send = async {
        for bytes in [
            b"hello\r\n",
            &long[..],
            b"\nb\xffd\n",
            b"still here\ndelete 12",
        ] {
            requests.write_all(bytes).await?;
        }
        requests.shutdown().await
    };
    let mut answers = read_lines(answers, LIMIT);
    let receive = async {
        while let Some(answer) = answers.next().await {
            println!("{}", answer?.unwrap_or_else(|error| error.to_string()));
        }
        Ok(())
    };
    tokio::try_join!(send, receive)?;
    server.await.map_err(io::Error::from)?
}
