//! A small cookbook in a temporary folder, sound until a test plants a fault in it.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The folder goes with the value.
pub(crate) struct Planted(TempDir);

impl Planted {
    /// One section, `demo`, with one recipe, `greet`; a root package with one program, `joined`.
    /// Nothing depends on anything, so it builds in a moment and without a network.
    pub(crate) fn sound() -> Self {
        let planted = Self(tempfile::tempdir().unwrap());
        let member = |name: &str| {
            format!(
                "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition.workspace = true\n\
                 license.workspace = true\npublish.workspace = true\n\n[lints]\nworkspace = true\n"
            )
        };
        let root = member("root");
        planted.write("Cargo.toml", format!("{WORKSPACE}\n{root}"));
        planted.write("README.md", README);
        planted.write("examples/joined.rs", JOINED);
        planted.write("examples/joined.out", "hello, all\n");
        planted.write("crates/cookbook/Cargo.toml", member("cookbook"));
        planted.write("crates/cookbook/src/lib.rs", "//! The command.\n");
        planted.write("crates/demo/Cargo.toml", member("demo"));
        planted.write("crates/demo/src/lib.rs", SECTION);
        planted.write("crates/demo/src/greet.rs", RECIPE);
        planted.write("crates/demo/examples/greet.rs", EXAMPLE);
        planted.write("crates/demo/examples/greet.out", "hello, you\n");
        planted.write("crates/demo/tests/greet.rs", TESTS);
        planted
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    /// Replaces `old`, which must be there, or the test would prove nothing.
    pub(crate) fn edit(&self, path: &str, old: &str, new: &str) {
        let text = self.read(path);
        assert!(text.contains(old), "{path} has no {old:?}");
        self.write(path, text.replace(old, new));
    }

    /// Adds a recipe with its four files and its README line; the example prints "hello, you".
    pub(crate) fn add_recipe(&self, section: &str, name: &str, title: &str) {
        let place =
            |folder: &str, extension: &str| format!("crates/{section}/{folder}/{name}.{extension}");
        if !self.path(&format!("crates/{section}")).exists() {
            let manifest = self.read("crates/demo/Cargo.toml");
            let manifest = manifest.replace("demo", section);
            self.write(&format!("crates/{section}/Cargo.toml"), manifest);
            let lib = SECTION.replace("pub mod greet;\n", "");
            self.write(&format!("crates/{section}/src/lib.rs"), lib);
        }
        let lib = format!("crates/{section}/src/lib.rs");
        self.write(&lib, self.read(&lib) + &format!("pub mod {name};\n"));
        let source = if section == "antipatterns" {
            RECIPE_OF_HARM
        } else {
            RECIPE
        };
        let source = source.replace("Greeting: say hello", title);
        self.write(&place("src", "rs"), source);
        self.write(&place("tests", "rs"), TESTS);
        let example = EXAMPLE.replace("greet\n", &format!("{name}\n"));
        let example = example.replace("demo::greet", &format!("{section}::{name}"));
        self.write(&place("examples", "rs"), example);
        self.write(&place("examples", "out"), "hello, you\n");
        let link = format!("- [{title}](crates/{section}/src/{name}.rs)\n");
        self.write("README.md", self.read("README.md") + &link);
    }
}

/// The body of a `main` that starts a child and hangs with it. The child listens on a port and
/// writes it to the file: while it lives, a connection to that port is accepted.
pub(crate) fn hang_with_a_child(port_file: &Path) -> String {
    format!(
        r#"
    use std::{{env, fs, net::TcpListener, process::Command, thread::sleep, time::Duration}};
    if env::args().count() == 1 {{
        println!("before it hangs");
        Command::new(env::current_exe().unwrap()).arg("child").spawn().unwrap();
    }} else {{
        let listener = Box::leak(Box::new(TcpListener::bind("127.0.0.1:0").unwrap()));
        let port = listener.local_addr().unwrap().port().to_string();
        fs::write({draft:?}, port).unwrap();
        fs::rename({draft:?}, {port_file:?}).unwrap();
    }}
    sleep(Duration::from_secs(600));
"#,
        draft = port_file.with_extension("new"),
    )
}

/// Whether the child of [`hang_with_a_child`] lives on. A killed one has a moment to go: the signal
/// is sent to a whole group at once, and only the group's leader is waited for.
pub(crate) fn lives(port_file: &Path) -> bool {
    let port = fs::read_to_string(port_file).expect("the child has not started");
    let address = ("127.0.0.1", port.parse().unwrap());
    (0..100).all(|_| {
        #[expect(clippy::disallowed_methods, reason = "waits for another process")]
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::net::TcpStream::connect(address).is_ok()
    })
}

const WORKSPACE: &str = r#"[workspace]
members = ["crates/*"]
resolver = "3"

[workspace.package]
edition = "2024"
license = "MIT"
publish = false

[workspace.lints.rust]
missing_docs = "warn"
"#;

const README: &str = "# A cookbook\n\n- [Greeting](crates/demo/src/greet.rs)\n";

const JOINED: &str =
    "//! cargo run --example joined\n\nfn main() {\n    println!(\"hello, all\");\n}\n";

const SECTION: &str = "//! # A section
//!
//! ## Go on with
//! - [Rust](https://www.rust-lang.org/): the language.
//! - [Cargo](https://doc.rust-lang.org/cargo/): its package manager.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod greet;
";

const RECIPE: &str = r#"//! # Greeting: say hello
//!
//! A caller is to be greeted,
//! by name.
//!
//! ## Use it when
//! - somebody comes.
//!
//! ## Use something else when
//! - nobody does.
//!
//! ## Add to your project
//! ```console
//! cargo add thiserror
//! ```
//!
//! ## Watch out
//! - Names are not checked.

/// The words for `name`.
///
/// # Cancel safety
///
/// Nothing is lost.
pub async fn greet(name: &str) -> String {
    words(name)
}

/// The words, at once.
#[must_use]
pub fn words(name: &str) -> String {
    format!("hello, {name}")
}
"#;

/// Its cure is `greet`, which does not warn of it yet.
const RECIPE_OF_HARM: &str = r#"//! # Greeting: say hello
//!
//! A caller is shouted at.
//!
//! ## You have it when
//! - callers leave.
//!
//! ## What it does to you
//! - Of 10 callers 9 never come back. `tokio` does not help.
//!
//! ## Use instead
//! - `greet`, by name.

/// The words, at once.
#[must_use]
pub fn words(name: &str) -> String {
    format!("hello, {name}")
}
"#;

const EXAMPLE: &str = r#"//! cargo run --example greet
//!
//! Greets whoever reads it.

fn main() {
    println!("{}", demo::greet::words("you"));
}
"#;

const TESTS: &str = "//! What is guaranteed.\n\n#[test]\nfn the_caller_is_greeted_by_name() {}\n";
