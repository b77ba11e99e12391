//! `copy`, driven as a user would. Whatever fails, the package must be as it was, byte for byte.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cookbook::copy::{Copy, CopyOptions};
use cookbook::{Catalog, Error, Interrupt};

mod support;

use support::Planted;

const SOURCE: &str = "crates/demo/src/greet.rs";
const ADD_ONE: &str = "cargo add one --path helpers/one --features extra";

/// A cookbook whose recipe needs the crate `one`, which is in it, and a package to copy it to.
fn planted() -> Planted {
    let planted = Planted::sound();
    planted.edit(SOURCE, "cargo add thiserror", ADD_ONE);
    planted.write("helpers/one/Cargo.toml", "[package]\nname = \"one\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[features]\nextra = []\nother = []\n\n[workspace]\n");
    planted.write("helpers/one/src/lib.rs", "");
    planted.write("app/Cargo.toml", "# mine\n[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n");
    planted.write("app/src/lib.rs", "//! Mine.\n");
    planted
}

fn cookbook(planted: &Planted, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cookbook"));
    command
        .current_dir(planted.root())
        .args(arguments)
        .env_remove("CLICOLOR_FORCE");
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// All files and folders below, with the bytes of the files.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut tree = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tree.extend(self::tree(&path));
            tree.insert(path, None);
        } else {
            let bytes = fs::read(&path).ok();
            tree.insert(path, bytes);
        }
    }
    tree
}

/// Copies `greet` with these arguments besides; it must fail with this code and change nothing.
#[track_caller]
fn refuses(planted: &Planted, code: i32, arguments: &[&str]) -> String {
    let before = tree(planted.root());
    let arguments = [&["copy", "greet", "--offline"], arguments].concat();
    let (actual, stdout, stderr) = output(&mut cookbook(planted, &arguments));
    assert_eq!((actual, stdout.as_str()), (Some(code), ""), "{stderr}");
    assert_eq!(tree(planted.root()), before, "something changed: {stderr}");
    stderr
}

#[test]
fn a_copy_is_the_file_its_dependencies_and_a_line_to_add() {
    let planted = planted();
    let (code, stdout, stderr) = output(&mut cookbook(
        &planted,
        &["copy", "greet", "--to", "app", "--offline"],
    ));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.contains("lib.rs") && stdout.ends_with("\nmod greet;\n"),
        "{stdout}"
    );
    assert_eq!(planted.read("app/src/greet.rs"), planted.read(SOURCE));
    let manifest = planted.read("app/Cargo.toml");
    assert!(manifest.starts_with("# mine\n"), "{manifest}");
    assert!(
        manifest.contains("path = \"../helpers/one\"")
            && manifest.contains("features = [\"extra\"]"),
        "{manifest}"
    );
    assert_eq!(planted.read("app/src/lib.rs"), "//! Mine.\n");
}

#[test]
fn the_default_is_the_package_around_the_current_folder() {
    let planted = planted();
    planted.write("app/src/main.rs", "fn main() {}\n");
    planted.remove("app/src/lib.rs");
    // A path in the recipe is relative to where one is.
    planted.edit(SOURCE, "helpers/one", "../../helpers/one");
    let mut command = cookbook(&planted, &["copy", "greet", "--offline"]);
    // Elsewhere than in the cookbook, this would be a copy from the one that the command was built from.
    let (code, stdout, stderr) = output(command.current_dir(planted.path("app/src")));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("main.rs"), "{stdout}");
    assert_eq!(planted.read("app/src/greet.rs"), planted.read(SOURCE));
}

#[test]
fn a_package_without_a_src_folder_gets_one_or_none() {
    let planted = planted();
    planted.write("app/main.rs", "fn main() {}\n");
    fs::remove_dir_all(planted.path("app/src")).unwrap();
    planted.write(
        "app/Cargo.toml",
        planted.read("app/Cargo.toml") + "[[bin]]\nname = \"app\"\npath = \"main.rs\"\n",
    );
    planted.edit(
        SOURCE,
        ADD_ONE,
        &format!("{ADD_ONE}\n//! cargo add two --path helpers/two"),
    );
    refuses(&planted, 1, &["--to", "app"]);
    planted.edit(SOURCE, "\n//! cargo add two --path helpers/two", "");
    let (code, _, stderr) = output(&mut cookbook(
        &planted,
        &["copy", "greet", "--to", "app", "--offline"],
    ));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(planted.path("app/src/greet.rs").is_file());
}

#[test]
fn a_dry_run_says_what_it_would_do_and_changes_nothing() {
    let planted = planted();
    let before = tree(planted.root());
    let (code, stdout, _) = output(&mut cookbook(
        &planted,
        &["copy", "greet", "--to", "app", "--dry-run", "--offline"],
    ));
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains(&format!("{ADD_ONE} --offline --manifest-path ")),
        "{stdout}"
    );
    assert!(
        stdout.contains("greet.rs") && stdout.ends_with("mod greet;\n"),
        "{stdout}"
    );
    assert_eq!(tree(planted.root()), before);
}

#[test]
fn a_dependency_that_fails_after_one_that_worked_leaves_nothing_behind() {
    let lock = "# a lock file\nversion = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n";
    for second in [
        "cargo add two --path helpers/two",
        "cargo add one --path helpers/one --features none",
    ] {
        for (has_lock, forced) in [(false, false), (true, false), (true, true)] {
            let planted = planted();
            planted.edit(SOURCE, ADD_ONE, &format!("{ADD_ONE}\n//! {second}"));
            if has_lock {
                planted.write("app/Cargo.lock", lock);
            }
            if forced {
                planted.write("app/src/greet.rs", "// mine\n");
            }
            let said = refuses(
                &planted,
                1,
                if forced {
                    &["--to", "app", "--force"]
                } else {
                    &["--to", "app"]
                },
            );
            assert!(
                said.contains("nothing was changed") && said.contains("helpers"),
                "{said}"
            );
        }
    }
}

#[test]
fn a_member_is_put_back_together_with_its_workspace() {
    let planted = planted();
    planted.edit("app/Cargo.toml", "\n[workspace]\n", "");
    planted.write(
        "Cargo.toml",
        planted
            .read("Cargo.toml")
            .replace("[workspace]\n", "[workspace]\nexclude = [\"outer\"]\n"),
    );
    fs::create_dir_all(planted.path("outer")).unwrap();
    fs::rename(planted.path("app"), planted.path("outer/app")).unwrap();
    planted.write("outer/Cargo.toml", "[workspace]\nmembers = [\"app\"]\nresolver = \"3\"\n\n[workspace.dependencies]\none = { path = \"../helpers/one\" }\n");
    planted.write("outer/Cargo.lock", "# old\nversion = 4\n");
    planted.edit(
        SOURCE,
        ADD_ONE,
        "cargo add one --features extra\n//! cargo add two --path helpers/two",
    );
    refuses(&planted, 1, &["--to", "outer/app"]);

    planted.edit(SOURCE, "\n//! cargo add two --path helpers/two", "");
    let (code, _, stderr) = output(&mut cookbook(
        &planted,
        &["copy", "greet", "--to", "outer/app", "--offline"],
    ));
    assert_eq!(code, Some(0), "{stderr}");
    let manifest = planted.read("outer/app/Cargo.toml");
    assert!(
        manifest.contains("one = { workspace = true, features = [\"extra\"] }"),
        "{manifest}"
    );
}

#[test]
fn a_file_that_is_there_is_overwritten_only_by_force() {
    let planted = planted();
    planted.write("app/src/greet.rs", "// mine\n");
    let said = refuses(&planted, 1, &["--to", "app"]);
    assert!(said.contains("--force"), "{said}");
    let arguments = ["copy", "greet", "--to", "app", "--offline", "--force"];
    assert_eq!(output(&mut cookbook(&planted, &arguments)).0, Some(0));
    assert_eq!(planted.read("app/src/greet.rs"), planted.read(SOURCE));
}

#[test]
fn a_place_that_is_no_package_is_refused_with_what_to_do() {
    let planted = planted();
    planted.write("virtual/Cargo.toml", "[workspace]\nmembers = []\n");
    planted.write("broken/Cargo.toml", "[package\n");
    planted.write("file", "");
    planted.write(
        "folder_is_a_file/Cargo.toml",
        planted.read("app/Cargo.toml") + "[lib]\npath = \"lib.rs\"\n",
    );
    planted.write("folder_is_a_file/lib.rs", "");
    planted.write("folder_is_a_file/src", "");
    fs::create_dir_all(planted.path("taken")).unwrap();
    planted.write("taken/Cargo.toml", planted.read("app/Cargo.toml"));
    planted.write("taken/src/lib.rs", "");
    fs::create_dir_all(planted.path("taken/src/greet.rs")).unwrap();
    for (folder, advice) in [
        ("nowhere", "cargo init"),
        ("helpers", "cargo init"),
        ("file", "cargo init"),
        ("virtual", "one of its members"),
        ("broken", "Cargo.toml"),
        ("folder_is_a_file", "src is not a folder"),
        ("taken", "is there already"),
        (".", "the cookbook itself"),
        ("crates/demo", "the cookbook itself"),
    ] {
        let said = refuses(&planted, 1, &["--to", folder, "--force"]);
        assert!(said.contains(advice), "{folder}: {said}");
    }
}

#[test]
fn harmful_code_is_refused_and_its_cure_named() {
    let planted = planted();
    planted.add_recipe("antipatterns", "shout", "Shouting");
    let shout = "crates/antipatterns/src/shout.rs";
    let refused = || {
        let before = tree(planted.root());
        let (code, _, stderr) = output(&mut cookbook(
            &planted,
            &["copy", "shout", "--to", "app", "--offline"],
        ));
        assert_eq!(code, Some(1));
        assert_eq!(tree(planted.root()), before);
        stderr
    };
    assert!(
        refused().contains("`greet` does the same job safely"),
        "{}",
        refused()
    );
    planted.edit(shout, "- `greet`, by name.", "- `shout` nor `tokio`.");
    assert!(
        refused().contains("cargo cookbook show shout"),
        "{}",
        refused()
    );
}

#[test]
fn a_dependency_line_with_shell_syntax_is_refused() {
    for line in [
        "cargo add one; touch pwned",
        "cargo add $(touch pwned)",
        "cargo add 'one'",
        "cargo add one --manifest-path elsewhere/Cargo.toml",
        "cargo add one --manifest-path=elsewhere/Cargo.toml",
        "cargo add",
        "cargo additional",
    ] {
        let planted = planted();
        planted.edit(SOURCE, ADD_ONE, line);
        let said = refuses(&planted, 1, &["--to", "app"]);
        assert!(said.contains("is not a plain `cargo add` line"), "{said}");
    }
}

#[test]
fn an_interrupt_after_the_last_step_takes_all_of_it_back() {
    let planted = planted();
    planted.edit(SOURCE, ADD_ONE, "echo nothing to add");
    fs::rename(planted.path("app/src/lib.rs"), planted.path("app/lib.rs")).unwrap();
    planted.write(
        "app/Cargo.toml",
        planted.read("app/Cargo.toml") + "[lib]\npath = \"lib.rs\"\n",
    );
    let catalog = Catalog::load(planted.root()).unwrap();
    let recipe = catalog.recipe("greet").unwrap();
    let raised = Interrupt::default();
    raised.raise();
    let make = |force| {
        let before = tree(planted.root());
        let options = CopyOptions {
            force,
            offline: true,
        };
        let copy = Copy::plan(
            &catalog,
            recipe,
            &planted.path("app"),
            options,
            &Interrupt::default(),
        );
        assert!(matches!(
            copy.unwrap().make(&raised),
            Err(Error::Interrupted)
        ));
        assert_eq!(tree(planted.root()), before);
    };
    planted.write("app/src/greet.rs", "// mine\n");
    make(true);
    fs::remove_dir_all(planted.path("app/src")).unwrap();
    make(false);
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Stdio;
    use std::time::Duration;

    #[test]
    fn a_source_that_cannot_be_written_takes_the_dependencies_back() {
        let planted = planted();
        planted.write("app/lib.rs", "");
        planted.write(
            "app/Cargo.toml",
            planted.read("app/Cargo.toml") + "[lib]\npath = \"lib.rs\"\n",
        );
        fs::remove_dir_all(planted.path("app/src")).unwrap();
        // Not there for whoever looks, and in the way of whoever makes it.
        symlink("nowhere", planted.path("app/src")).unwrap();
        let said = refuses(&planted, 1, &["--to", "app"]);
        assert!(said.contains("cannot make"), "{said}");
    }

    /// A cargo that changes everything it can and then hangs.
    #[test]
    fn ctrl_c_half_way_puts_everything_back_and_exits_130() {
        let planted = planted();
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = add ] || exec '{}' \"$@\"\n\
             echo '[dependencies]' >> app/Cargo.toml\necho new > app/Cargo.lock\necho $$ > started\nsleep 600\n",
            env!("CARGO")
        );
        planted.write("slow-cargo", script);
        fs::set_permissions(
            planted.path("slow-cargo"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        let before = tree(planted.root());
        let mut command = cookbook(&planted, &["copy", "greet", "--to", "app"]);
        command
            .env("CARGO", planted.path("slow-cargo"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let appears = |_: &u32| {
            #[expect(clippy::disallowed_methods, reason = "waits for another process")]
            std::thread::sleep(Duration::from_millis(20));
            planted.path("started").exists()
        };
        let tries = (0..3000).find(appears);
        let signal = |signal, pid: &str| {
            Command::new("kill")
                .args([signal, pid])
                .output()
                .unwrap()
                .status
                .success()
        };
        assert!(signal("-INT", &child.id().to_string()));
        let output = child.wait_with_output().unwrap();
        assert!(tries.is_some(), "{output:?}");
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        let cargo = planted.read("started");
        assert!(!signal("-0", cargo.trim()), "cargo goes on");
        planted.remove("started");
        assert_eq!(tree(planted.root()), before);
    }
}
