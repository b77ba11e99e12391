//! cargo run --example unseen_first_value
//!
//! A limit of 100 is configured, and does not change while the program runs. Which limits are
//! applied?

use std::error::Error;
use std::time::Duration;

use antipatterns::unseen_first_value::follow;
use channels::config_watch::ConfigWatch;
use tokio::sync::watch;

fn parse(content: &[u8]) -> Result<u32, Box<dyn Error + Send + Sync>> {
    Ok(std::str::from_utf8(content)?.trim().parse()?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut applied = Vec::new();
    let sender = watch::Sender::new(100);
    let following = follow(sender.subscribe(), |limit| applied.push(limit));
    drop(sender); // the program ends
    following.await;
    println!("changed first: {applied:?}");

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("limit");
    tokio::fs::write(&path, "100").await?;
    let mut applied = Vec::new();
    let config = ConfigWatch::start(path, Duration::MAX, parse).await?;
    let mut reader = config.reader();
    let following = async {
        while let Some(limit) = reader.next().await {
            applied.push(*limit);
        }
    };
    let ending = async {
        tokio::task::yield_now().await;
        drop(config);
    };
    tokio::join!(following, ending);
    println!("config_watch:  {applied:?}");
    Ok(())
}
