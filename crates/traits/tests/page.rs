//! What the section's page says cannot be said, and what the recipes say does not compile: that it does
//! not, and for that reason.
//!
//! Each file in `tests/ui` has beside it what the compiler says of it. To record that anew, set
//! `TRYBUILD=overwrite`.
#![cfg(test)] // so that the lints take the helpers for what they are

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use trybuild::TestCases;

/// Set in the process that records what another compiler says: the folder of the cases.
const RECORD_IN: &str = "PAGE_TEST_RECORDS_IN";

#[test]
fn what_is_said_not_to_compile_is_refused_for_that_reason() {
    if let Some(folder) = env::var_os(RECORD_IN) {
        return TestCases::new().compile_fail(Path::new(&folder).join("*.rs"));
    }
    if compiler_is(env!("CARGO_PKG_RUST_VERSION")) {
        return TestCases::new().compile_fail("tests/ui/*.rs");
    }
    // Another compiler may choose other words, but the errors are the same.
    let recorded = record();
    for case in cases(Path::new("tests/ui")) {
        let name = case.file_name().unwrap();
        assert_eq!(
            errors(&case),
            errors(&recorded.join(name)),
            "{}",
            name.display()
        );
    }
}

#[tokio::test]
async fn who_names_the_type_can_spawn_the_future_of_a_plain_async_fn() {
    trait Store: Send + Sync {
        async fn get(&self) -> u8;
    }
    struct Seven;
    impl Store for Seven {
        async fn get(&self) -> u8 {
            tokio::task::yield_now().await;
            7
        }
    }
    let spawned = tokio::spawn(async { Seven.get().await });
    assert_eq!(spawned.await.unwrap(), 7);
}

fn compiler_is(version: &str) -> bool {
    let rustc = Command::new("rustc").arg("--version").output().unwrap();
    let said = String::from_utf8(rustc.stdout).unwrap();
    said.starts_with(&format!("rustc {version}."))
}

/// The cases in a folder of their own, with what the compiler at hand says of them.
fn record() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ui");
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    for case in cases(Path::new("tests/ui")) {
        fs::copy(&case, folder.join(case.file_name().unwrap())).unwrap();
    }
    let status = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "what_is_said_not_to_compile_is_refused_for_that_reason",
        ])
        .env(RECORD_IN, &folder)
        .env("TRYBUILD", "overwrite")
        .status()
        .unwrap();
    assert!(status.success(), "a case compiles, or none can be tried");
    folder
}

fn cases(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let cases: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|it| it == "rs"))
        .collect();
    assert!(!cases.is_empty(), "no case in {}", folder.display());
    cases
}

/// The codes of the errors, sorted; of those that have none, the first words.
fn errors(case: &Path) -> Vec<String> {
    let said = fs::read_to_string(case.with_extension("stderr")).unwrap();
    let errors = said.lines().filter(|line| line.starts_with("error"));
    let mut codes: Vec<_> = errors
        .map(|line| match line.split_once("]:") {
            Some((code, _)) => code.to_owned(),
            None => line.to_owned(),
        })
        .collect();
    codes.sort();
    codes
}
