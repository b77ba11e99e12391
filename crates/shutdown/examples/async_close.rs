//! cargo run --example async_close
//!
//! The same report is written three times through a buffer: closed, left by an early return, and
//! without the wrapper. What is in each file afterwards is printed. (The early return also
//! emits a `tracing` event, for whoever listens.)

use std::path::Path;
use std::time::Duration;

use shutdown::async_close::MustClose;
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const REPORT: &[u8] = b"41 rows read, 1 row refused\n";

async fn closed(path: &Path) -> Result<()> {
    let mut report = MustClose::new("report", BufWriter::new(File::create(path).await?));
    report.write_all(REPORT).await?;
    report.close(Duration::from_secs(5)).await?;
    Ok(())
}

async fn left_early(path: &Path) -> Result<()> {
    let mut report = MustClose::new("report", BufWriter::new(File::create(path).await?));
    report.write_all(REPORT).await?;
    let _rows: u32 = "4l".parse()?; // the early return
    report.close(Duration::from_secs(5)).await?;
    Ok(())
}

async fn bare(path: &Path) -> Result<()> {
    let mut report = BufWriter::new(File::create(path).await?);
    report.write_all(REPORT).await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("report");
    let length = || std::fs::metadata(&path).map(|file| file.len());

    println!("closed: {:?}", closed(&path).await);
    println!("  {} of {} bytes are in the file", length()?, REPORT.len());
    println!("left early: {:?}", left_early(&path).await);
    println!("  {} of {} bytes are in the file", length()?, REPORT.len());
    println!("without the wrapper: {:?}", bare(&path).await);
    println!("  {} of {} bytes are in the file", length()?, REPORT.len());
    Ok(())
}
