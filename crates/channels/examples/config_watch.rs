//! cargo run --example config_watch
//!
//! A real file, read every 10 ms. A new version is taken up, a bad one is reported and changes
//! nothing, an operator's command holds until the file changes again.

use std::error::Error;
use std::time::Duration;
use std::{fs, io};

use channels::config_watch::ConfigWatch;

#[derive(Clone, Debug, PartialEq)]
struct Config {
    workers: u16,
}

fn parse(content: &[u8]) -> Result<Config, Box<dyn Error + Send + Sync>> {
    let text = std::str::from_utf8(content)?;
    let workers = text.trim().strip_prefix("workers = ");
    let workers = workers.ok_or("there is no line for workers")?.parse()?;
    Ok(Config { workers })
}

/// Beside the file first, then in its place: whoever reads it sees the old version or the new one.
fn write(text: &str) -> io::Result<()> {
    fs::write("service.conf.new", text)?;
    fs::rename("service.conf.new", "service.conf")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    std::env::set_current_dir(&folder)?;

    write("workers = 4")?;
    let config = ConfigWatch::start("service.conf", Duration::from_millis(10), parse).await?;
    let mut reader = config.reader();
    println!("at the start: {:?}", reader.next().await);

    write("workers = 8")?;
    println!("a new file:   {:?}", reader.next().await);

    write("workers = many")?;
    match config.reload().await {
        Ok(_) => println!("a bad file was taken"),
        Err(error) => println!("a bad file:   {error}"),
    }
    println!("still:        {:?}", reader.current());

    config.modify(|config| config.workers += 1);
    println!("an operator:  {:?}", reader.next().await);

    write("workers = 2")?;
    println!("a good file:  {:?}", reader.next().await);
    println!("a problem:    {:?}", config.problem());

    drop(config);
    println!("at the end:   {:?}", reader.next().await);
    Ok(())
}
