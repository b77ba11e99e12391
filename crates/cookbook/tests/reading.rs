//! `list`, `search`, `show`, `completions`, and what holds for all commands: driven as a user would.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

mod support;

use support::Planted;

fn cookbook(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cookbook"));
    command
        .current_dir(folder)
        .args(arguments)
        .env_remove("CLICOLOR_FORCE")
        .env_remove("NO_COLOR");
    command
}

fn output(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = cookbook(folder, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// What it prints; it must succeed.
#[track_caller]
fn prints(planted: &Planted, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = output(planted.root(), arguments);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    stdout
}

/// What it complains about; it must fail like this, and print nothing.
#[track_caller]
fn complains(planted: &Planted, code: i32, arguments: &[&str]) -> String {
    let (actual, stdout, stderr) = output(planted.root(), arguments);
    assert_eq!((actual, stdout.as_str()), (Some(code), ""), "{stderr}");
    stderr
}

#[test]
fn list_follows_the_readme_and_the_declarations_and_puts_the_rest_last() {
    let planted = Planted::sound();
    planted.add_recipe("zebra", "zoo", "A zoo");
    planted.add_recipe("zebra", "ant", "An ant");
    planted.add_recipe("apart", "alone", "Not on the shelf");
    planted.write("crates/zebra/src/undeclared.rs", "//! no title\n");
    planted.write(
        "README.md",
        "[z](crates/zebra/src/ant.rs) [d](crates/demo/src/greet.rs)\n",
    );
    planted.write("crates/servers/src/lib.rs", "//! A tool.\n");
    let expected = "zebra\n  zoo         A zoo\n  ant         An ant\n  undeclared  undeclared\n\n\
                    demo\n  greet       Greeting: say hello\n\napart\n  alone       Not on the shelf\n";
    assert_eq!(prints(&planted, &["list"]), expected);
    assert_eq!(
        prints(&planted, &["list", "apart"]),
        "apart\n  alone       Not on the shelf\n"
    );
}

#[test]
fn list_as_json_has_the_documented_shape() {
    let planted = Planted::sound();
    let json: serde_json::Value =
        serde_json::from_str(&prints(&planted, &["list", "--json"])).unwrap();
    let expected = serde_json::json!([{
        "name": "greet",
        "section": "demo",
        "title": "Greeting: say hello",
        "summary": "A caller is to be greeted, by name.",
        "source": "crates/demo/src/greet.rs",
        "example": "crates/demo/examples/greet.rs",
        "output": "crates/demo/examples/greet.out",
        "test_file": "crates/demo/tests/greet.rs",
        "tests": ["the_caller_is_greeted_by_name"],
        "cargo_add": ["cargo add thiserror"],
    }]);
    assert_eq!(json, expected);
    let none = prints(&planted, &["list", "--json", "demo"]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&none).unwrap(),
        expected
    );
}

#[test]
fn only_the_fence_under_its_heading_names_dependencies() {
    let planted = Planted::sound();
    let source = "crates/demo/src/greet.rs";
    planted.edit(
        source,
        "//! ## Use it when",
        "//! ```console\n//! cargo add early\n//! ```\n//! ## Use it when",
    );
    planted.edit(source, "//! ## Watch out", "//! ```console\n//! cargo add second\n//! ```\n//! ## Watch out\n//! ```console\n//! cargo add late\n//! ```");
    planted.edit(
        source,
        "cargo add thiserror",
        "cargo add thiserror\n//! cargo  add spaced\n//! cargo add tokio --features rt",
    );
    let json: serde_json::Value =
        serde_json::from_str(&prints(&planted, &["list", "--json"])).unwrap();
    assert_eq!(
        json[0]["cargo_add"],
        serde_json::json!(["cargo add thiserror", "cargo add tokio --features rt"])
    );
    planted.edit(
        source,
        "//! ```console\n//! cargo add thiserror",
        "//! ```text\n//! cargo add thiserror",
    );
    planted.edit(
        source,
        "//! ```console\n//! cargo add second\n//! ```\n",
        "",
    );
    let json: serde_json::Value =
        serde_json::from_str(&prints(&planted, &["list", "--json"])).unwrap();
    assert_eq!(json[0]["cargo_add"], serde_json::json!([]));
}

#[test]
fn search_finds_titles_prose_names_and_messages_best_first_with_the_line() {
    let planted = Planted::sound();
    planted.add_recipe("demo", "aside", "Mentions it");
    let aside = "crates/demo/src/aside.rs";
    planted.edit(aside, "- nobody does.", "- you want a farewell.");
    planted.add_recipe("demo", "farewell", "Farewell: say goodbye");
    let farewell = "crates/demo/src/farewell.rs";
    planted.write(farewell, planted.read(farewell) + "\n/// It.\npub fn wave_twice() -> &'static str {\n    \"nobody is here (os error 32)\"\n}\n");

    let found = prints(&planted, &["search", "Farewells"]);
    let lines: Vec<_> = found.lines().collect();
    assert_eq!(lines[0], "farewell  Farewell: say goodbye");
    assert_eq!(
        lines[1],
        "  crates/demo/src/farewell.rs:1  # Farewell: say goodbye"
    );
    assert_eq!(lines[2], "aside  Mentions it");
    assert!(lines[3].ends_with("- you want a farewell."), "{found}");
    assert_eq!(lines.len(), 4, "{found}");

    for query in ["wave_twice", "twice"] {
        let found = prints(&planted, &["search", query]);
        assert!(
            found.starts_with("farewell") && found.contains("pub fn wave_twice()"),
            "{found}"
        );
    }
    // The title has "say", and weighs more than a message; the message has two of the words.
    let found = prints(&planted, &["search", "say", "error", "32"]);
    assert!(
        found.contains("\"nobody is here (os error 32)\""),
        "{found}"
    );
    let message = "thread 'main' panicked: Nobody is here! (os error 32)";
    let found = prints(&planted, &["search", message]);
    assert!(
        found.starts_with("farewell") && found.contains("\"nobody is here (os error 32)\""),
        "{found}"
    );
    // The others have "nobody" too, and nothing else of it.
    assert_eq!(found.lines().count(), 2, "{found}");
}

#[test]
fn search_finds_a_recipe_by_a_symptom_that_its_page_leads_from() {
    let planted = Planted::sound();
    planted.write(
        "SYMPTOMS.md",
        "# Symptoms\n\n| You see | Read |\n| --- | --- |\n\
         | `nobody answered the door` at night | [greet](crates/demo/src/greet.rs) |\n",
    );
    let found = prints(&planted, &["search", "answered the DOOR"]);
    assert!(
        found.contains("SYMPTOMS.md:5  nobody answered the door at night"),
        "{found}"
    );
    assert!(found.starts_with("greet  "), "{found}");
}

#[test]
fn search_without_a_match_says_so_and_exits_1() {
    let planted = Planted::sound();
    for words in ["zzz", "!?", ""] {
        let said = complains(&planted, 1, &["search", words]);
        assert!(said.contains("nothing matches"), "{said}");
    }
}

#[test]
fn show_is_the_whole_page_without_colours_in_a_pipe() {
    let planted = Planted::sound();
    let page = prints(&planted, &["show", "greet"]);
    let mut rest = page.as_str();
    for part in [
        "# Greeting: say hello\n\nA caller is to be greeted,\nby name.\n",
        "cargo add thiserror\n",
        "- Names are not checked.\n",
        "(crates/demo/src/greet.rs)\n",
        "/// The words for `name`.\n",
        "pub async fn greet(name: &str) -> String {\n    words(name)\n}\n",
        "cargo run --example greet\n",
        "\nhello, you\n",
        "- the_caller_is_greeted_by_name\n",
    ] {
        let (_, after) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("{part:?} is not next in:\n{page}"));
        rest = after;
    }
    assert!(
        !page.contains('\u{1b}') && !page.contains("//!"),
        "{page:?}"
    );
}

#[test]
fn show_has_colours_where_they_are_wanted() {
    let planted = Planted::sound();
    let coloured = cookbook(planted.root(), &["show", "greet"])
        .env("CLICOLOR_FORCE", "1")
        .output()
        .unwrap();
    let coloured = String::from_utf8(coloured.stdout).unwrap();
    assert!(coloured.contains("\u{1b}[35mpub\u{1b}[0m"), "{coloured:?}");
}

#[test]
fn show_without_a_recording_says_how_to_get_one() {
    let planted = Planted::sound();
    planted.remove("crates/demo/examples/greet.out");
    assert!(prints(&planted, &["show", "greet"]).contains("cargo cookbook record greet"));
}

#[test]
fn show_code_is_the_file_byte_for_byte() {
    let planted = Planted::sound();
    let source = "//! # Odd\r\n\u{1b}[31mred\u{1b}[0m \t no newline at the end";
    planted.write("crates/demo/src/greet.rs", source);
    assert_eq!(prints(&planted, &["show", "greet", "--code"]), source);
}

#[test]
fn an_unknown_name_gives_the_nearest_and_exits_2() {
    let planted = Planted::sound();
    planted.add_recipe("demo", "work_queue", "A queue");
    for arguments in [
        ["show", "work_qeue"],
        ["show", "queue"],
        ["run", "workqueue"],
        ["copy", "work-queue"],
        ["record", "work_quere"],
    ] {
        let said = complains(&planted, 2, &arguments);
        assert!(said.contains("did you mean `work_queue`"), "{said}");
    }
    let said = complains(&planted, 2, &["list", "dem"]);
    assert!(
        said.contains("no section is called `dem`; did you mean `demo`?"),
        "{said}"
    );
    for name in [
        "../../etc/passwd",
        "",
        "crates/demo/src/greet.rs",
        "\u{1f980}",
    ] {
        let said = complains(&planted, 2, &["show", "--code", name]);
        assert!(said.contains("no recipe is called"), "{said}");
    }
}

#[test]
fn wrong_use_exits_2() {
    let planted = Planted::sound();
    for arguments in [
        &[][..],
        &["liist"],
        &["search"],
        &["run"],
        &["run", "greet", "--all"],
        &["run", "greet", "--deadline", "0"],
        &["run", "greet", "--deadline", "-1"],
        &["show"],
        &["completions", "csh"],
    ] {
        assert!(
            complains(&planted, 2, arguments).contains("--help"),
            "{arguments:?}"
        );
    }
}

#[test]
fn each_command_has_a_help_with_examples() {
    let planted = Planted::sound();
    assert!(prints(&planted, &["--help"]).contains("Examples:"));
    for command in [
        "list",
        "search",
        "show",
        "run",
        "copy",
        "record",
        "completions",
    ] {
        assert!(
            prints(&planted, &[command, "--help"]).contains("cargo cookbook "),
            "{command}"
        );
    }
}

#[test]
fn completions_know_the_commands() {
    let planted = Planted::sound();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(
            prints(&planted, &["completions", shell]).contains("search"),
            "{shell}"
        );
    }
}

#[test]
fn the_cookbook_is_found_from_any_folder_in_it_and_from_outside() {
    let planted = Planted::sound();
    let (_, inside, _) = output(&planted.path("crates/demo/src"), &["list"]);
    assert_eq!(inside, prints(&planted, &["list"]));
    let outside = tempfile::tempdir().unwrap();
    let (code, listed, _) = output(outside.path(), &["list"]);
    assert_eq!(code, Some(0));
    assert!(listed.contains("every_await_point"), "{listed}");
}

#[test]
fn a_recipe_without_prose_is_listed_by_its_name_and_shown() {
    let planted = Planted::sound();
    planted.write("crates/demo/src/greet.rs", "pub fn words() {}\n");
    assert_eq!(prints(&planted, &["list"]), "demo\n  greet  greet\n");
    assert!(prints(&planted, &["show", "greet"]).contains("pub fn words() {}"));
    planted.write("crates/demo/src/greet.rs", "");
    assert!(prints(&planted, &["show", "greet"]).contains("cargo run --example greet"));
}

#[test]
fn a_file_that_is_no_text_is_named() {
    let planted = Planted::sound();
    planted.write("crates/demo/src/greet.rs", b"//! # \xff\n");
    let said = complains(&planted, 1, &["list"]);
    assert!(said.contains("greet.rs is not UTF-8"), "{said}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let planted = Planted::sound();
    let recipe = planted.read("crates/demo/src/greet.rs");
    planted.write(
        "crates/demo/src/greet.rs",
        recipe + &"// a long file\n".repeat(100_000),
    );
    for arguments in [&["show", "greet"][..], &["show", "--code", "greet"]] {
        let mut command = cookbook(planted.root(), arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), &b""[..])
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let planted = Planted::sound();
    for arguments in [&["list"][..], &["list", "--json"], &["completions", "bash"]] {
        let full = std::fs::File::create("/dev/full").unwrap();
        let output = cookbook(planted.root(), arguments)
            .stdout(full)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains("cannot write the output"), "{said}");
    }
}
