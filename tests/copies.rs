//! What you copy compiles: every recipe is copied into an empty crate by the code behind
//! `cargo cookbook copy`, and checked there with nothing but the dependencies that it names.
//!
//! One crate at a time: checked together, cargo would unify their features, and a recipe that
//! names too few would pass on those of another. All share one target folder, so that each
//! dependency is checked once for each set of features.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use cookbook::catalog::Recipe;
use cookbook::copy::{Copy, CopyOptions};
use cookbook::{Catalog, Error, Interrupt};

#[path = "../crates/cookbook/tests/support/mod.rs"]
mod support;

use support::Planted;

/// A recipe that does not stand alone.
#[derive(Debug)]
struct Fault {
    file: String,
    additions: Vec<String>,
    said: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} does not compile alone, in an empty crate\n    mend: its lines under `## Add to your project` must name every crate and feature that \
             it uses, and the code nothing outside of the file. They are:\n        {}\n{}",
            self.file,
            self.additions.join("\n        "),
            self.said
        )
    }
}

/// Copies the recipe into an empty crate in `base` and checks it there.
fn check(catalog: &Catalog, recipe: &Recipe, base: &Path) -> Result<(), Fault> {
    let fault = |said| Fault {
        file: recipe.source.clone(),
        additions: recipe.cargo_add.clone(),
        said,
    };
    // Another run of the tests may be at work on the same folders.
    fs::create_dir_all(copies()).unwrap();
    let turn = fs::File::create(copies().join("lock")).unwrap();
    turn.lock().unwrap(); // until it is dropped
    let folder = base.join(&recipe.name);
    let stamp = folder.join("copied-from");
    let key = key(catalog, recipe);
    if fs::read_to_string(&stamp).ok().as_ref() != Some(&key) {
        copy(catalog, recipe, &folder).map_err(|error| fault(error.to_string()))?;
        fs::write(&stamp, key).unwrap();
    }
    let check = |offline: &[&str]| {
        let mut check = cargo();
        check
            .args(["check", "--quiet", "--manifest-path"])
            .arg(folder.join("Cargo.toml"));
        check
            .arg("--target-dir")
            .arg(copies().join("target"))
            .args(offline);
        check.output().unwrap()
    };
    let mut output = check(&["--offline"]);
    let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() && said.contains("--offline") {
        output = check(&[]);
        said = String::from_utf8_lossy(&output.stderr).into_owned();
    }
    if output.status.success() {
        Ok(())
    } else {
        Err(fault(said))
    }
}

/// Makes an empty crate and copies the recipe into it.
fn copy(catalog: &Catalog, recipe: &Recipe, folder: &Path) -> Result<(), Error> {
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap();
    }
    fs::create_dir_all(folder.join("src")).unwrap();
    // With a [workspace] of its own it belongs to no other.
    let manifest = format!(
        "[package]\nname = \"copy-of-{}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n",
        recipe.name.replace('_', "-")
    );
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    let lib = format!("#![deny(warnings)]\npub mod {};\n", recipe.name);
    fs::write(folder.join("src/lib.rs"), lib).unwrap();
    // The versions that the workspace was tested with.
    fs::copy(lock_file(), folder.join("Cargo.lock")).unwrap();
    let interrupt = Interrupt::default();
    let make = |offline| {
        let options = CopyOptions {
            force: false,
            offline,
        };
        Copy::plan(catalog, recipe, folder, options, &interrupt)?.make(&interrupt)
    };
    match make(true) {
        // Something has not been downloaded yet.
        Err(Error::Cargo { stderr, .. })
            if ["offline", "registry index"]
                .iter()
                .any(|it| stderr.contains(it)) =>
        {
            make(false)
        }
        other => other,
    }
}

/// All that a copy depends on: the recipe, the versions, and the code that copies.
fn key(catalog: &Catalog, recipe: &Recipe) -> String {
    let this_test = fs::metadata(std::env::current_exe().unwrap()).unwrap();
    let built = this_test
        .modified()
        .unwrap()
        .duration_since(UNIX_EPOCH)
        .unwrap();
    let source = catalog.read(&recipe.source).unwrap();
    let lock = fs::read_to_string(lock_file()).unwrap();
    format!("{built:?}\n{lock}\n{source}")
}

fn cargo() -> Command {
    Command::new(env!("CARGO"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn lock_file() -> PathBuf {
    root().join("Cargo.lock")
}

/// `target/copies`, wherever cargo builds.
fn copies() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("copies")
}

#[test]
fn every_recipe_compiles_alone_with_the_dependencies_it_names() {
    let catalog = Catalog::load(root()).unwrap();
    let mut faults = Vec::new();
    let mut checked = 0;
    // What shows harm is not for copying, and `copy` refuses it.
    for recipe in catalog.recipes().filter(|recipe| !recipe.is_harmful()) {
        checked += 1;
        faults.extend(check(&catalog, recipe, &copies()).err());
    }
    assert!(checked > 0, "no recipe was found");
    let list: String = faults.iter().map(|fault| format!("\n{fault}")).collect();
    assert!(
        faults.is_empty(),
        "{} of {checked} recipes:{list}",
        faults.len()
    );
}

/// Plants a recipe of this name in a cookbook of its own and checks it.
fn planted(name: &str, additions: &str, code: &str) -> Result<(), Fault> {
    let planted = Planted::sound();
    planted.add_recipe("demo", name, "Planted");
    let source = format!("crates/demo/src/{name}.rs");
    planted.edit(&source, "//! cargo add thiserror\n", additions);
    planted.write(&source, planted.read(&source) + code);
    let catalog = Catalog::load(planted.root()).unwrap();
    // Not in the planted folder: its name is another each time, and cargo would keep a copy of all.
    check(
        &catalog,
        catalog.recipe(name).unwrap(),
        &copies().join("planted"),
    )
}

const USES_TIME: &str = "\n/// Waits.\npub fn wait() -> tokio::time::Sleep {\n    \
                         tokio::time::sleep(std::time::Duration::ZERO)\n}\n";

#[test]
fn a_feature_that_the_lines_do_not_name_is_found_and_the_lines_are_shown() {
    planted(
        "names_the_feature",
        "//! cargo add tokio --features time\n",
        USES_TIME,
    )
    .unwrap();
    let fault = planted(
        "lacks_a_feature",
        "//! cargo add tokio --features rt\n",
        USES_TIME,
    )
    .unwrap_err();
    let message = fault.to_string();
    for part in [
        "crates/demo/src/lacks_a_feature.rs",
        "mend:",
        "        cargo add tokio --features rt\n",
        "could not find `time` in `tokio`",
    ] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn a_dependency_that_the_lines_do_not_name_is_found() {
    let said = planted("lacks_a_dependency", "//! cargo add thiserror\n", USES_TIME)
        .unwrap_err()
        .said;
    assert!(said.contains("`tokio`"), "{said}");
}

#[test]
fn a_use_of_the_section_is_found() {
    let code = "\npub use crate::greet::words as other;\n";
    let said = planted("uses_its_section", "//! cargo add thiserror\n", code)
        .unwrap_err()
        .said;
    assert!(said.contains("greet"), "{said}");
}

#[test]
fn a_warning_is_found() {
    let said = planted("warns", "//! cargo add thiserror\n", "\nfn unused() {}\n")
        .unwrap_err()
        .said;
    assert!(said.contains("`unused` is never used"), "{said}");
}

#[test]
fn a_line_that_cannot_be_carried_out_is_found() {
    let said = planted(
        "asks_too_much",
        "//! cargo add tokio --features no-such-feature\n",
        "",
    )
    .unwrap_err()
    .said;
    assert!(said.contains("no-such-feature"), "{said}");
}
