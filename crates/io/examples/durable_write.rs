//! cargo run --example durable_write
//!
//! A counter is saved a few times, one save is given up half way, and a killed process has left its
//! half behind. Whoever reads the file finds a whole number.

use std::error::Error;
use std::fs;
use std::path::Path;

use ::io::durable_write::DurableFile;

fn list(folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    println!("in the folder: {}", names.join(" "));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("counter");
    fs::write(folder.path().join(".counter.x1Yz99.replacing"), "4")?; // cut short, it was to be 42

    let counter = DurableFile::new(&path);
    println!("removed {} leftover", counter.remove_leftovers().await?);
    for number in [1, 2, 3] {
        counter.replace(number.to_string()).await?;
        println!("saved {}", fs::read_to_string(&path)?);
    }
    list(folder.path())?;

    // The save that is dropped here happens or does not. The next one comes after it.
    let saving = counter.replace("1000");
    drop(futures_util::poll!(std::pin::pin!(saving)));
    counter.replace("4").await?;
    println!("saved {}", fs::read_to_string(&path)?);

    let nowhere = DurableFile::new(folder.path().join("missing/counter"));
    if let Err(error) = nowhere.replace("5").await {
        // The temporary folder has another name on each run.
        let folder = folder.path().display().to_string();
        println!("{}", error.to_string().replace(&folder, ""));
    }
    list(folder.path())
}
