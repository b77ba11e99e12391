//! That each failure of loading a file says where it is, down to the field.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::cell::Cell;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use errors::context::{load, parse};
use serde::Deserialize;
use tempfile::TempDir;
use testing::every_await_point::{Outcome, every_await_point};

const LARGEST: u64 = 1_000;
const SOUND: &str = "listen = '127.0.0.1:80'\n[[users]]\nname = 'Ann'\nage = 7\n";

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    listen: String,
    #[serde(default)]
    users: Vec<User>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    name: String,
    age: u8,
}

fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.toml");
    fs::write(&path, content).unwrap();
    (folder, path)
}

/// What loading a file with this content says, without the path.
async fn said(content: impl AsRef<[u8]>) -> String {
    let (_folder, path) = file(content);
    let error = load::<Configuration>(&path, LARGEST, |_| Ok(()))
        .await
        .unwrap_err();
    let said = format!("{error:#}");
    let outermost = format!("cannot load the configuration {}: ", path.display());
    said.strip_prefix(&outermost).expect(&said).to_owned()
}

#[tokio::test]
async fn a_sound_file_is_loaded() {
    let (_folder, path) = file(SOUND);
    let loaded: Configuration = load(path, LARGEST, |_| Ok(())).await.unwrap();
    let ann = User {
        name: "Ann".to_owned(),
        age: 7,
    };
    let listen = "127.0.0.1:80".to_owned();
    assert_eq!(
        loaded,
        Configuration {
            listen,
            users: vec![ann]
        }
    );
}

#[tokio::test]
async fn a_field_of_the_wrong_type_is_named_with_its_line_and_column() {
    let said = said(SOUND.replace("= 7", "= 'old'")).await;
    assert_eq!(
        said,
        "line 4, column 7: users[0].age: invalid type: string \"old\", expected u8"
    );
}

#[tokio::test]
async fn a_value_out_of_range_is_named() {
    let said = said(SOUND.replace("= 7", "= 700")).await;
    assert!(
        said.starts_with("line 4, column 7: users[0].age: invalid value"),
        "{said}"
    );
    assert!(said.contains("700") && said.contains("u8"), "{said}");
}

#[tokio::test]
async fn a_field_that_is_unknown_or_missing_is_named() {
    let unknown = said(SOUND.replace("age", "aeg")).await;
    assert!(
        unknown.starts_with("line 4, column 1: users[0].aeg: unknown field `aeg`"),
        "{unknown}"
    );
    let missing = said(SOUND.replace("age = 7", "")).await;
    assert_eq!(missing, "line 2, column 1: users[0]: missing field `age`");
    assert_eq!(
        said("").await,
        "line 1, column 1: the file: missing field `listen`"
    );
}

#[tokio::test]
async fn what_is_not_toml_is_told_with_its_place() {
    let said = said("listen = 'x'\nusers = [\n").await;
    assert!(said.starts_with("line 2, column 10: not TOML: "), "{said}");
}

#[tokio::test]
async fn columns_are_characters_and_not_bytes() {
    let said = said("listen = 'x'\nusers = [{name = 'ÄÖÜ', age = 'ß'}]\n").await;
    assert!(
        said.starts_with("line 2, column 31: users[0].age: "),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_not_text_is_told_with_its_place() {
    let said = said(b"listen = 'x'\n# \xc3\xa4 \xff\n").await;
    assert!(said.starts_with("line 2, column 5: not UTF-8: "), "{said}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_and_its_cause_can_be_asked_for() {
    let (folder, path) = file(SOUND);
    let missing = folder.path().join("gone.toml");
    let below_a_file = path.join("app.toml");
    for (path, kind) in [
        (missing, io::ErrorKind::NotFound),
        (folder.path().to_owned(), io::ErrorKind::IsADirectory),
        (below_a_file, io::ErrorKind::NotADirectory),
    ] {
        let error = load::<Configuration>(&path, LARGEST, |_| Ok(()))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
        assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), kind);
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_or_never_ends_is_refused() {
    let (_folder, path) = file(SOUND);
    let length = u64::try_from(SOUND.len()).unwrap();
    let load = async |path: &str, largest| load::<Configuration>(path, largest, |_| Ok(())).await;
    let path = path.to_str().unwrap();
    assert!(load(path, length).await.is_ok());
    assert!(load(path, u64::MAX).await.is_ok());
    for (path, largest) in [(path, length - 1), (path, 0), ("/dev/zero", 1_000_000)] {
        let said = format!("{:#}", load(path, largest).await.unwrap_err());
        assert!(
            said.contains(&format!("larger than {largest} bytes")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_check_says_what_types_cannot() {
    let (_folder, path) = file(SOUND);
    let check = |it: &Configuration| {
        for (index, user) in it.users.iter().enumerate() {
            let adult = || {
                if user.age < 18 {
                    bail!("is {}", user.age)
                } else {
                    Ok(())
                }
            };
            adult().with_context(|| format!("users[{index}].age: not of age"))?;
        }
        Ok(())
    };
    let error = load(path, LARGEST, check).await.unwrap_err();
    let said = format!("{error:#}");
    assert!(
        said.ends_with("app.toml: users[0].age: not of age: is 7"),
        "{said}"
    );
}

#[tokio::test]
async fn dropped_at_any_point_it_can_be_called_again() {
    let points = every_await_point(
        Duration::from_secs(60),
        async || file(SOUND),
        async |(_, path)| load::<Configuration>(path, LARGEST, |_| Ok(())).await,
        async |(_, path), outcome| {
            if let Outcome::Completed(loaded) = outcome {
                assert!(loaded.is_ok());
            }
            assert!(
                load::<Configuration>(path, LARGEST, |_| Ok(()))
                    .await
                    .is_ok()
            );
        },
    )
    .await;
    assert!(points.unwrap() >= 2, "open and read");
}

#[test]
fn harm_the_plain_message_of_a_chain_is_its_outermost_context() {
    let error = parse::<Configuration>(b"listen = 7")
        .unwrap_err()
        .context("cannot start");
    assert_eq!(error.to_string(), "cannot start");
    let chain =
        "cannot start: line 1, column 10: listen: invalid type: integer `7`, expected a string";
    assert_eq!(format!("{error:#}"), chain);
    let lines = format!("{error:?}");
    assert!(
        lines.contains("Caused by:") && lines.contains("1: invalid type"),
        "{lines}"
    );
}

#[test]
fn harm_without_a_word_a_misspelt_field_is_its_default() {
    #[derive(Deserialize)]
    struct Lax {
        #[serde(default)]
        workers: u32,
    }
    assert_eq!(parse::<Lax>(b"worker = 8").unwrap().workers, 0);
}

#[test]
fn harm_a_secret_of_the_wrong_type_is_in_the_message() {
    let said = format!(
        "{:#}",
        parse::<Configuration>(b"listen = 123456").unwrap_err()
    );
    assert!(said.contains("123456"), "{said}");
    // Only what was refused is quoted, and not the rest of its line.
    let line = b"users = [{ name = 'secret', age = 'x' }]\nlisten = 'x'";
    let said = format!("{:#}", parse::<Configuration>(line).unwrap_err());
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn harm_a_context_that_is_formatted_beforehand_is_formatted_for_nothing() {
    struct Counts<'a>(&'a Cell<u32>);
    impl fmt::Display for Counts<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.set(self.0.get() + 1);
            f.write_str("formatted")
        }
    }
    let (count, lazy) = (Cell::new(0), Cell::new(0));
    let fine = || Result::<()>::Ok(());
    fine().context(format!("{}", Counts(&count))).unwrap();
    fine()
        .with_context(|| format!("{}", Counts(&lazy)))
        .unwrap();
    assert_eq!((count.get(), lazy.get()), (1, 0));
}
