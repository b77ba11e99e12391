//! cargo run --example accepted_and_dropped
//!
//! A client has sent its request when the server is told to stop; the answer needs 50 ms more.

use std::io::{self, Read, Write};
use std::time::Duration;

use antipatterns::accepted_and_dropped::serve;
use shutdown::graceful_shutdown::{StopLimits, Workers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

const LIMITS: StopLimits = StopLimits {
    finish: Duration::from_secs(10),
    abort: Duration::from_secs(1),
};

async fn handle(mut client: TcpStream, stop: CancellationToken) -> io::Result<()> {
    client.read_u8().await?;
    stop.cancel(); // so that it comes while this request is under way
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.write_all(b"the answer").await
}

async fn serve_and_finish(listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
    let workers = Workers::new(&stop);
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let ((client, address), stop) = (accepted?, stop.clone());
        let handle = async |client, _| drop(handle(client, stop).await);
        workers.intake().spawn(address, client, handle).ok(); // refused: it stops
    }
    println!("{:?}", workers.shutdown(LIMITS).await);
    Ok(())
}

fn main() -> io::Result<()> {
    for finish in [false, true] {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let stop = CancellationToken::new();
        let mut client = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let mut client = std::net::TcpStream::connect(listener.local_addr()?)?;
            client.write_all(b"?")?;
            if finish {
                serve_and_finish(listener, stop).await?;
            } else {
                let stopped = stop.clone().cancelled_owned();
                serve(listener, stopped, |client| handle(client, stop.clone())).await?;
            }
            io::Result::Ok(client)
        })?;
        drop(runtime); // as at the end of `main`
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        println!("the client reads {answer:?}");
    }
    Ok(())
}
