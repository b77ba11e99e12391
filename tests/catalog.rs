//! The rules of the catalogue. Each says what is wrong, where, and how to mend it; and each has a
//! test of itself, which plants the fault and sees it found.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use cookbook::Catalog;
use proc_macro2::{TokenStream, TokenTree};
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag};
use syn::visit::{self, Visit};

#[path = "../crates/cookbook/tests/support/mod.rs"]
mod support;

use support::Planted;

/// A broken rule.
#[derive(Debug)]
struct Fault {
    file: String,
    what: String,
    mend: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    mend: {}", self.file, self.what, self.mend)
    }
}

fn fault(file: impl Into<String>, what: impl Into<String>, mend: &'static str) -> Fault {
    Fault {
        file: file.into(),
        what: what.into(),
        mend,
    }
}

/// All rules, applied to the workspace in `root`.
fn check(root: &Path) -> Vec<Fault> {
    let catalog = &Catalog::load(root).unwrap();
    let rules = [
        four_files,
        strays,
        names,
        declarations,
        shelf,
        manifests,
        dependencies_are_used,
        quiet_sections,
        headings,
        additions,
        run_lines,
        tests_run,
        cancel_safety,
        self_contained,
        fences,
        twins,
        site,
        further_reading,
    ];
    thread::scope(|scope| {
        let rules = rules.map(|rule| scope.spawn(move || rule(catalog)));
        let faults = rules.map(|rule| rule.join().unwrap());
        faults.into_iter().flatten().collect()
    })
}

#[test]
fn every_rule_holds_in_this_workspace() {
    let faults = check(Path::new(env!("CARGO_MANIFEST_DIR")));
    let list: String = faults.iter().map(|fault| format!("\n{fault}")).collect();
    assert!(faults.is_empty(), "{} broken rules:{list}", faults.len());
}

// ------------------------------------------------------------------------------------ the rules

fn four_files(catalog: &Catalog) -> Vec<Fault> {
    let mut faults = Vec::new();
    for recipe in catalog.recipes() {
        for (file, mend) in [
            (
                &recipe.example,
                "write a short main that shows the recipe at work",
            ),
            (
                &recipe.output,
                "run `cargo cookbook record` with the recipe's name",
            ),
            (&recipe.test_file, "write a test for each guarantee"),
        ] {
            if !catalog.root.join(file).is_file() {
                faults.push(fault(
                    file,
                    format!("`{}` has no such file", recipe.name),
                    mend,
                ));
            }
        }
    }
    faults
}

fn strays(catalog: &Catalog) -> Vec<Fault> {
    const MEND: &str = "give it the name of the recipe it belongs to (tests/page.rs belongs to the section's page), or remove it";
    let mut faults = Vec::new();
    for section in &catalog.sections {
        let is_recipe = |stem: &str| section.recipes.iter().any(|recipe| recipe.name == stem);
        for folder in ["examples", "tests"] {
            for file in files_in(&catalog.root.join("crates").join(&section.name).join(folder)) {
                let of_the_page = shown(catalog, &file) == page_tests(&section.name);
                if !of_the_page && !is_recipe(&stem(&file)) {
                    faults.push(fault(shown(catalog, &file), "belongs to no recipe", MEND));
                }
            }
        }
    }
    for file in files_in(&catalog.root.join("examples")) {
        let partner = file.with_extension(if has_extension(&file, "rs") {
            "out"
        } else {
            "rs"
        });
        if !partner.is_file() {
            let what = format!("there is no {} beside it", shown(catalog, &partner));
            faults.push(fault(
                shown(catalog, &file),
                what,
                "record it, or remove it",
            ));
        }
    }
    faults
}

fn names(catalog: &Catalog) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut first: HashMap<String, String> = HashMap::new();
    let sections = catalog
        .sections
        .iter()
        .map(|section| (&section.name, format!("crates/{}", section.name)));
    let examples: Vec<_> = catalog.examples().collect();
    let examples = examples
        .iter()
        .map(|example| (&example.name, example.source.clone()));
    for (name, place) in sections.chain(examples) {
        if let Some(other) = first.insert(name.clone(), place.clone()) {
            let what = format!("`{name}` is also the name of {other}");
            faults.push(fault(
                place,
                what,
                "rename one: names are unique in the workspace",
            ));
        }
    }
    faults
}

fn declarations(catalog: &Catalog) -> Vec<Fault> {
    let mut faults = Vec::new();
    for section in &catalog.sections {
        let lib = format!("crates/{}/src/lib.rs", section.name);
        let declared: Vec<String> = syntax(catalog, &lib)
            .items
            .into_iter()
            .filter_map(|item| match item {
                syn::Item::Mod(module) if matches!(module.vis, syn::Visibility::Public(_)) => {
                    Some(module.ident.to_string())
                }
                _ => None,
            })
            .collect();
        for recipe in section
            .recipes
            .iter()
            .filter(|recipe| !declared.contains(&recipe.name))
        {
            let what = format!("{lib} does not declare it, so nothing compiles it");
            faults.push(fault(
                &recipe.source,
                what,
                "add `pub mod` with its name in reading order",
            ));
        }
    }
    faults
}

fn shelf(catalog: &Catalog) -> Vec<Fault> {
    let mut faults = Vec::new();
    for path in markdown_files(&catalog.root) {
        let file = shown(catalog, &path);
        let folder = path.parent().unwrap();
        for link in links(&fs::read_to_string(&path).unwrap()) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') && !folder.join(target).exists() {
                let what = format!("links to {link}, which does not exist");
                faults.push(fault(&file, what, "correct the link, or remove it"));
            }
        }
    }
    let readme = fs::read_to_string(catalog.root.join("README.md")).unwrap_or_default();
    let linked = links(&readme);
    for recipe in catalog
        .recipes()
        .filter(|recipe| !linked.contains(&recipe.source))
    {
        let what = format!("`{}` is not on the shelf", recipe.name);
        faults.push(fault(
            "README.md",
            what,
            "add a line that links to crates/<section>/src/<name>.rs",
        ));
    }
    faults
}

fn manifests(catalog: &Catalog) -> Vec<Fault> {
    let mut faults = Vec::new();
    let members = folders_in(&catalog.root.join("crates"));
    let members = members
        .iter()
        .map(|folder| folder.join("Cargo.toml"))
        .filter(|it| it.is_file());
    for path in members.chain([catalog.root.join("Cargo.toml")]) {
        let file = shown(catalog, &path);
        let manifest: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        let inherits = |value: Option<&toml::Value>| {
            value
                .and_then(|value| value.get("workspace"))
                .and_then(toml::Value::as_bool)
                == Some(true)
        };
        if !inherits(manifest.get("lints")) {
            faults.push(fault(
                &file,
                "does not inherit the workspace's lints",
                "add `[lints]` with `workspace = true`",
            ));
        }
        let package = manifest.get("package");
        for key in ["edition", "license", "publish"] {
            if !inherits(package.and_then(|package| package.get(key))) {
                let what = format!("`{key}` is not inherited from the workspace");
                faults.push(fault(&file, what, "write it as `key.workspace = true`"));
            }
        }
        let is_section = catalog
            .sections
            .iter()
            .any(|it| file == format!("crates/{}/Cargo.toml", it.name));
        for (table, name, dependency) in dependencies(&manifest) {
            if !inherits(Some(dependency)) {
                let what = format!("`{name}` is not inherited in [{table}]");
                faults.push(fault(&file, what, "name its version in [workspace.dependencies] and write `workspace = true` here"));
            }
            if is_section
                && table == "dependencies"
                && catalog.root.join("crates").join(name).is_dir()
            {
                let what =
                    format!("depends on `{name}` of this workspace, which no copied recipe can");
                faults.push(fault(&file, what, "make it a dev-dependency"));
            }
        }
    }
    faults
}

fn dependencies_are_used(catalog: &Catalog) -> Vec<Fault> {
    let mut faults = Vec::new();
    for section in &catalog.sections {
        let folder = format!("crates/{}", section.name);
        let manifest = format!("{folder}/Cargo.toml");
        let table: toml::Table = catalog.read(&manifest).unwrap().parse().unwrap();
        for (kind, name, _) in dependencies(&table) {
            let path = format!("{}::", name.replace('-', "_"));
            let code = if kind == "dependencies" { "src" } else { "" };
            let mut files = walk(&catalog.root.join(&folder).join(code)).into_iter();
            let is_used = files.any(|file| {
                has_extension(&file, "rs") && fs::read_to_string(&file).unwrap().contains(&path)
            });
            if !is_used {
                let what = format!("`{name}` in [{kind}] is named in no file of {folder}/{code}");
                faults.push(fault(
                    &manifest,
                    what,
                    "remove it, or make it a dev-dependency if only tests and examples use it",
                ));
            }
        }
    }
    faults
}

fn quiet_sections(catalog: &Catalog) -> Vec<Fault> {
    let mut faults = Vec::new();
    for section in &catalog.sections {
        let lib = format!("crates/{}/src/lib.rs", section.name);
        let file = syntax(catalog, &lib);
        let warned: Vec<String> = file
            .attrs
            .iter()
            .filter(|attribute| {
                ["warn", "deny", "forbid"]
                    .iter()
                    .any(|level| attribute.path().is_ident(level))
            })
            .filter_map(|attribute| attribute.meta.require_list().ok())
            .map(|list| list.tokens.to_string().replace(' ', ""))
            .collect();
        for lint in ["clippy::print_stdout", "clippy::print_stderr"] {
            if !warned
                .iter()
                .any(|lints| lints.split(',').any(|it| it == lint))
            {
                faults.push(fault(&lib, format!("does not warn on {lint}"), "add `#![warn(clippy::print_stdout, clippy::print_stderr)]`: recipes do not print"));
            }
        }
    }
    faults
}

/// The headings of a recipe, in their order. A harmful twin has others: nobody is to use it.
const HEADINGS: [&str; 4] = [
    "Use it when",
    "Use something else when",
    "Add to your project",
    "Watch out",
];
const HEADINGS_OF_A_TWIN: [&str; 3] = ["You have it when", "What it does to you", "Use instead"];

fn headings(catalog: &Catalog) -> Vec<Fault> {
    const MEND: &str = "begin with `//! # Title`, a paragraph, then `## Use it when`, `## Use something else when`, `## Add to your project` and `## Watch out`, in this order";
    const MEND_A_TWIN: &str = "begin with `//! # Title`, a paragraph, then `## You have it when`, `## What it does to you` and `## Use instead`, in this order";
    let mut faults = Vec::new();
    for recipe in catalog.recipes() {
        let source = catalog.read(&recipe.source).unwrap();
        let prose: Vec<_> = source
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .collect();
        if !prose.first().is_some_and(|line| line.starts_with(" # ")) {
            faults.push(fault(&recipe.source, "the first line is no title", MEND));
        }
        if recipe.summary.is_empty() {
            faults.push(fault(
                &recipe.source,
                "no paragraph says what the problem is",
                MEND,
            ));
        }
        let (order, mend) = if recipe.is_harmful() {
            (&HEADINGS_OF_A_TWIN[..], MEND_A_TWIN)
        } else {
            (&HEADINGS[..], MEND)
        };
        let headings = prose.iter().filter_map(|line| line.strip_prefix(" ## "));
        let is_of_the_order =
            |heading: &&str| HEADINGS.contains(heading) || HEADINGS_OF_A_TWIN.contains(heading);
        let found: Vec<_> = headings.filter(is_of_the_order).collect();
        if found != order {
            let what = format!("its headings are {found:?}");
            faults.push(fault(&recipe.source, what, mend));
        }
    }
    faults
}

fn additions(catalog: &Catalog) -> Vec<Fault> {
    const MEND: &str = "write one `cargo add` a line, without versions or shell syntax";
    let mut faults = Vec::new();
    for recipe in catalog.recipes().filter(|it| !it.is_harmful()) {
        let source = catalog.read(&recipe.source).unwrap();
        let prose: Vec<_> = source
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(str::trim)
            .collect();
        let part = prose
            .iter()
            .skip_while(|line| **line != "## Add to your project")
            .skip(1);
        let part: Vec<_> = part
            .take_while(|line| !line.starts_with("## "))
            .copied()
            .collect();
        let console: Vec<_> = fenced(&part.join("\n"))
            .into_iter()
            .filter(|(tag, _)| tag == "console")
            .collect();
        if console.len() > 1 {
            faults.push(fault(
                &recipe.source,
                "more than one console fence names dependencies",
                "put all `cargo add` lines into one",
            ));
        }
        // A recipe that needs nothing says so in words.
        if part.iter().all(|line| line.is_empty()) {
            faults.push(fault(
                &recipe.source,
                "nothing under `## Add to your project`",
                "add a console fence of `cargo add` lines, or say that none are needed",
            ));
        }
        for line in console.iter().flat_map(|(_, text)| text.lines()) {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || " -_./,=+:".contains(c);
            if !line.starts_with("cargo add ")
                || !line.chars().all(is_plain)
                || line.contains("--path")
            {
                faults.push(fault(
                    &recipe.source,
                    format!("`{line}` is not a plain `cargo add`"),
                    MEND,
                ));
            } else if line.contains("--no-default-features") {
                faults.push(fault(
                    &recipe.source,
                    format!(
                        "`{line}` takes features away from a project that has the crate already"
                    ),
                    "name only features to add",
                ));
            }
        }
    }
    faults
}

fn run_lines(catalog: &Catalog) -> Vec<Fault> {
    let mut faults = Vec::new();
    for example in catalog.examples() {
        let Ok(source) = catalog.read(&example.source) else {
            continue;
        };
        let expected = format!("//! cargo run --example {}", example.name);
        let first = source.lines().next().unwrap_or_default();
        if first != expected {
            let what = format!("its first line is `{first}`, not `{expected}`");
            faults.push(fault(
                &example.source,
                what,
                "begin with the line that runs it",
            ));
        }
    }
    faults
}

fn tests_run(catalog: &Catalog) -> Vec<Fault> {
    struct Ignored(Vec<String>);
    impl<'ast> Visit<'ast> for Ignored {
        fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
            if function
                .attrs
                .iter()
                .any(|attribute| attribute.path().is_ident("ignore"))
            {
                self.0.push(function.sig.ident.to_string());
            }
            visit::visit_item_fn(self, function);
        }
    }
    let mut faults = Vec::new();
    for recipe in catalog.recipes() {
        if catalog.root.join(&recipe.test_file).is_file()
            && catalog.tests(recipe).unwrap().is_empty()
        {
            faults.push(fault(
                &recipe.test_file,
                "has no test",
                "write a test for each guarantee",
            ));
        }
    }
    for section in &catalog.sections {
        let file = page_tests(&section.name);
        let is_test = |item: &syn::Item| {
            let syn::Item::Fn(function) = item else {
                return false;
            };
            let mut paths = function.attrs.iter().map(syn::Attribute::path);
            paths.any(|path| path.segments.last().is_some_and(|it| it.ident == "test"))
        };
        if catalog.root.join(&file).is_file() && !syntax(catalog, &file).items.iter().any(is_test) {
            faults.push(fault(
                &file,
                "has no test",
                "write a test for each claim of the page",
            ));
        }
    }
    let has_the_word = |file: &String| catalog.read(file).unwrap().contains("ignore");
    for file in rust_files(catalog).into_iter().filter(has_the_word) {
        let mut ignored = Ignored(Vec::new());
        ignored.visit_file(&syntax(catalog, &file));
        for name in ignored.0 {
            faults.push(fault(
                &file,
                format!("`{name}` is ignored"),
                "mend the test or remove it: a skipped test is none",
            ));
        }
    }
    faults
}

fn cancel_safety(catalog: &Catalog) -> Vec<Fault> {
    #[derive(Default)]
    struct Undocumented(Vec<String>);
    impl Undocumented {
        fn look(
            &mut self,
            is_public: bool,
            attributes: &[syn::Attribute],
            signature: &syn::Signature,
        ) {
            let is_documented = docs(attributes)
                .lines()
                .any(|line| line.trim() == "# Cancel safety");
            if is_public && is_async(signature) && !is_documented {
                self.0.push(signature.ident.to_string());
            }
        }
    }
    impl<'ast> Visit<'ast> for Undocumented {
        fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
            self.look(is_public(&item.vis), &item.attrs, &item.sig);
            visit::visit_item_fn(self, item);
        }
        fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
            self.look(is_public(&item.vis), &item.attrs, &item.sig);
            visit::visit_impl_item_fn(self, item);
        }
        fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
            for of_trait in &item.items {
                if let syn::TraitItem::Fn(method) = of_trait {
                    self.look(is_public(&item.vis), &method.attrs, &method.sig);
                }
            }
            visit::visit_item_trait(self, item);
        }
    }
    let mut faults = Vec::new();
    for recipe in catalog.recipes().filter(|it| !it.is_harmful()) {
        let mut undocumented = Undocumented::default();
        undocumented.visit_file(&syntax(catalog, &recipe.source));
        for name in undocumented.0 {
            let what = format!("`{name}` does not say what is lost when its future is dropped");
            faults.push(fault(
                &recipe.source,
                what,
                "add a `# Cancel safety` section to its documentation, and a test that backs it",
            ));
        }
    }
    faults
}

fn self_contained(catalog: &Catalog) -> Vec<Fault> {
    let mut faults = Vec::new();
    for recipe in catalog.recipes() {
        let tokens: TokenStream = catalog.read(&recipe.source).unwrap().parse().unwrap();
        for root in paths_out_of_the_file(tokens) {
            let what =
                format!("uses `{root}::`, which is something else where the file is copied to");
            faults.push(fault(
                &recipe.source,
                what,
                "the file is the unit of copying: bring what it needs into it",
            ));
        }
    }
    faults
}

fn fences(catalog: &Catalog) -> Vec<Fault> {
    const OTHER: [&str; 4] = ["console", "text", "toml", "json"];
    let mut faults = Vec::new();
    for file in rust_files(catalog) {
        for block in doc_blocks(&catalog.read(&file).unwrap()) {
            for (tag, _) in fenced(&block) {
                let is_compiled = tag.split(',').map(str::trim).all(|word| {
                    let is_code = word
                        .strip_prefix('E')
                        .is_some_and(|code| code.parse::<u16>().is_ok());
                    is_code || ["", "rust", "compile_fail", "should_panic"].contains(&word)
                });
                if !is_compiled && !OTHER.contains(&tag.as_str()) {
                    faults.push(fault(&file, format!("a code fence is tagged `{tag}`"), "let it be compiled (no tag, `compile_fail`, `should_panic`), or say what it is (`console`, `text`, `toml`)"));
                }
            }
        }
    }
    for path in markdown_files(&catalog.root) {
        for (tag, _) in fenced(&fs::read_to_string(&path).unwrap()) {
            if !OTHER.contains(&tag.as_str()) {
                faults.push(fault(shown(catalog, &path), format!("a code fence is tagged `{tag}`"), "say what it is (`console`, `text`, `toml`); link to Rust code that is compiled, for here nothing compiles it"));
            }
        }
    }
    faults
}

/// A harmful twin leads to the recipe that mends it, and that one warns of the twin.
fn twins(catalog: &Catalog) -> Vec<Fault> {
    let mut faults = Vec::new();
    for twin in catalog.recipes().filter(|it| it.is_harmful()) {
        let Some(cure) = catalog.cure(twin).unwrap() else {
            faults.push(fault(
                &twin.source,
                "names no recipe that mends it",
                "name the recipe in backticks under `## Use instead`",
            ));
            continue;
        };
        let prose = catalog.read(&cure.source).unwrap();
        let mut prose = prose.lines().map_while(|line| line.strip_prefix("//!"));
        if !prose.any(|line| line.contains(&format!("`{}`", twin.name))) {
            let what = format!(
                "does not warn of `{}`, which names it as its cure",
                twin.name
            );
            faults.push(fault(
                &cure.source,
                what,
                "name the twin in backticks under `## Watch out`",
            ));
        }
    }
    faults
}

/// The first page of the documentation is the shelf: what the README says of each section.
fn site(catalog: &Catalog) -> Vec<Fault> {
    const FILE: &str = "crates/cookbook/src/lib.rs";
    let readme = fs::read_to_string(catalog.root.join("README.md")).unwrap_or_default();
    let front = catalog.read(FILE).unwrap();
    let on_shelf = readme.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("### [")?.split_once("](")?;
        let (_, about) = rest.split_once("): ")?;
        Some(format!(
            "//! | [`{name}`](../{name}/index.html) | {about} |"
        ))
    });
    let on_shelf: Vec<_> = on_shelf.collect();
    let on_front: Vec<_> = front
        .lines()
        .filter(|line| line.contains("/index.html)"))
        .collect();
    if on_shelf == on_front {
        return Vec::new();
    }
    let missing = on_shelf
        .iter()
        .find(|line| !on_front.contains(&line.as_str()));
    let what = match missing {
        Some(line) => format!("its table of the sections lacks `{line}`"),
        None => "its table of the sections is not the README's, in its order".to_owned(),
    };
    vec![fault(FILE, what, "write it as the README's shelf has it")]
}

/// A section's page ends with where its reader goes on.
fn further_reading(catalog: &Catalog) -> Vec<Fault> {
    const MEND: &str = "end the page with `## Go on with` and a line for each of two to five pages: `- [Its title](https://its.address): what one finds there`";
    let mut faults = Vec::new();
    for section in &catalog.sections {
        let lib = format!("crates/{}/src/lib.rs", section.name);
        let page = doc_blocks(&catalog.read(&lib).unwrap());
        let page = page.first().map_or("", String::as_str);
        let headings = Parser::new(page).into_offset_iter();
        let headings = headings.filter_map(|(event, range)| {
            matches!(event, Event::Start(Tag::Heading { .. })).then_some(range)
        });
        let last = headings.last().unwrap_or_default();
        let heading = page[last.clone()].trim();
        if heading != "## Go on with" {
            faults.push(fault(
                &lib,
                format!("its last heading is `{heading}`"),
                MEND,
            ));
            continue;
        }
        let part = &page[last.end..];
        let entries: Vec<_> = part.lines().filter(|line| line.starts_with("- ")).collect();
        if entries.len() < 2 {
            let what = format!("leads to {} pages", entries.len());
            faults.push(fault(&lib, what, MEND));
        }
        // What has a space in its address is no link to Markdown, unless it is in angle brackets.
        let unlinked = entries.iter().filter(|entry| links(entry).is_empty());
        let unlinked = unlinked.map(|entry| format!("`{entry}` is no link"));
        let odd = links(part).into_iter();
        let odd = odd.filter(|link| !link.starts_with("https://") || link.contains(' '));
        let odd = odd.map(|link| format!("links to `{link}`"));
        faults.extend(unlinked.chain(odd).map(|what| fault(&lib, what, MEND)));
    }
    faults
}

// ---------------------------------------------------------------------------- what the rules use

fn is_public(visibility: &syn::Visibility) -> bool {
    matches!(visibility, syn::Visibility::Public(_))
}

/// An `async fn`, or one whose return type names a future.
fn is_async(signature: &syn::Signature) -> bool {
    struct Future(bool);
    impl<'ast> Visit<'ast> for Future {
        fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
            self.0 |= segment.ident.to_string().ends_with("Future");
            visit::visit_path_segment(self, segment);
        }
    }
    let mut future = Future(signature.asyncness.is_some());
    future.visit_return_type(&signature.output);
    future.0
}

fn docs(attributes: &[syn::Attribute]) -> String {
    let mut docs = String::new();
    for attribute in attributes {
        if let syn::Meta::NameValue(meta) = &attribute.meta
            && meta.path.is_ident("doc")
            && let syn::Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(text),
                ..
            }) = &meta.value
        {
            docs += &(text.value() + "\n");
        }
    }
    docs
}

/// The tests of what a section's page claims, should it claim something that no recipe does.
fn page_tests(section: &str) -> String {
    format!("crates/{section}/tests/page.rs")
}

fn syntax(catalog: &Catalog, path: &str) -> syn::File {
    let source = catalog.read(path).unwrap();
    syn::parse_file(&source).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Each `crate` and `super` that is followed by `::`, in macros too. `pub(crate)` is none.
fn paths_out_of_the_file(tokens: TokenStream) -> Vec<String> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut found = Vec::new();
    for (token, next) in tokens
        .iter()
        .zip(tokens.iter().skip(1).map(Some).chain([None]))
    {
        let is_path = matches!(next, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
        match token {
            TokenTree::Ident(word) if is_path && (word == "crate" || word == "super") => {
                found.push(word.to_string());
            }
            TokenTree::Group(group) => found.extend(paths_out_of_the_file(group.stream())),
            _ => {}
        }
    }
    found
}

/// The documentation comments of a file, each with its lines together.
fn doc_blocks(source: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block = String::new();
    for line in source.lines().chain([""]) {
        let line = line.trim_start();
        match line
            .strip_prefix("//!")
            .or_else(|| line.strip_prefix("///"))
        {
            Some(text) => block += &(text.strip_prefix(' ').unwrap_or(text).to_owned() + "\n"),
            None if block.is_empty() => {}
            None => blocks.push(std::mem::take(&mut block)),
        }
    }
    blocks
}

/// The fenced code blocks of a Markdown text: the tag and the text of each.
fn fenced(markdown: &str) -> Vec<(String, String)> {
    let mut fences = Vec::new();
    let mut inside = false;
    for event in Parser::new(markdown) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(tag))) => {
                inside = true;
                fences.push((tag.to_string(), String::new()));
            }
            Event::End(_) => inside = false,
            Event::Text(text) if inside => {
                if let Some((_, code)) = fences.last_mut() {
                    code.push_str(&text);
                }
            }
            _ => {}
        }
    }
    fences
}

fn links(markdown: &str) -> Vec<String> {
    let target = |event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            Some(dest_url.to_string())
        }
        _ => None,
    };
    Parser::new(markdown).filter_map(target).collect()
}

/// Each dependency of a manifest: the kind of its table, its name, what is said of it.
fn dependencies(manifest: &toml::Table) -> Vec<(&'static str, &str, &toml::Value)> {
    const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let targets = targets
        .into_iter()
        .flat_map(|table| table.values())
        .filter_map(toml::Value::as_table);
    let mut found = Vec::new();
    for table in targets.chain([manifest]) {
        for kind in KINDS {
            let dependencies = table.get(kind).and_then(toml::Value::as_table);
            let dependencies = dependencies.into_iter().flatten();
            found.extend(dependencies.map(|(name, value)| (kind, name.as_str(), value)));
        }
    }
    found
}

/// The Rust files of the sections and of the root package, as paths relative to the workspace.
fn rust_files(catalog: &Catalog) -> Vec<String> {
    let sections = catalog
        .sections
        .iter()
        .map(|section| format!("crates/{}", section.name));
    let folders: Vec<_> = sections
        .chain(["examples".into(), "tests".into()])
        .collect();
    let files = folders
        .iter()
        .flat_map(|folder| walk(&catalog.root.join(folder)));
    files
        .filter(|file| has_extension(file, "rs"))
        .map(|file| shown(catalog, &file))
        .collect()
}

fn markdown_files(root: &Path) -> Vec<PathBuf> {
    walk(root)
        .into_iter()
        .filter(|file| has_extension(file, "md"))
        .collect()
}

/// All files below the folder, but for hidden ones and what cargo builds.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        !name.starts_with('.') && name != "target"
    };
    let folders = folders_in(folder).into_iter().filter(is_ours);
    let below = folders.flat_map(|folder| walk(&folder));
    files_in(folder)
        .into_iter()
        .filter(is_ours)
        .chain(below)
        .collect()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    entries(folder).filter(|path| path.is_file()).collect()
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    entries(folder).filter(|path| path.is_dir()).collect()
}

/// What is in the folder, if it is there.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|it| it == extension)
}

/// The path relative to the workspace, with `/`.
fn shown(catalog: &Catalog, path: &Path) -> String {
    let parts = path.strip_prefix(&catalog.root).unwrap().components();
    let parts: Vec<_> = parts
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    parts.join("/")
}

// --------------------------------------------------------------------------- the rules' own tests

const RECIPE: &str = "crates/demo/src/greet.rs";
const MANIFEST: &str = "crates/demo/Cargo.toml";

/// Asserts that there is exactly one fault, in this file, and that it says this.
#[track_caller]
fn found(planted: &Planted, file: &str, what: &str) {
    let faults = check(planted.root());
    let list: String = faults.iter().map(|fault| format!("\n{fault}")).collect();
    assert_eq!(
        faults.len(),
        1,
        "expected one fault with {what:?}, found:{list}"
    );
    assert_eq!(faults[0].file, file, "{list}");
    assert!(
        faults[0].what.contains(what),
        "expected {what:?}, found:{list}"
    );
    assert!(!faults[0].mend.is_empty());
}

#[test]
fn a_sound_workspace_has_no_fault() {
    let faults = check(Planted::sound().root());
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn a_missing_file_is_found() {
    for file in ["examples/greet.rs", "examples/greet.out", "tests/greet.rs"] {
        let planted = Planted::sound();
        let path = format!("crates/demo/{file}");
        planted.remove(&path);
        found(&planted, &path, "no such file");
    }
}

#[test]
fn a_file_that_belongs_to_no_recipe_is_found() {
    for path in [
        "crates/demo/examples/gone.rs",
        "crates/demo/examples/gone.out",
        "crates/demo/tests/gone.rs",
    ] {
        let planted = Planted::sound();
        planted.write(path, "//! cargo run --example gone\n");
        found(&planted, path, "belongs to no recipe");
    }
}

#[test]
fn the_tests_of_a_page_belong_to_it_and_must_be_tests() {
    let planted = Planted::sound();
    let path = "crates/demo/tests/page.rs";
    planted.write(path, "#[tokio::test]\nasync fn claim() {}\n");
    assert!(check(planted.root()).is_empty());
    planted.write(path, "fn claim() {}\n");
    found(&planted, path, "has no test");
    let planted = Planted::sound();
    let path = "crates/demo/examples/page.rs";
    planted.write(path, "//! cargo run --example page\n");
    found(&planted, path, "belongs to no recipe");
}

#[test]
fn a_program_without_a_recording_and_a_recording_without_a_program_are_found() {
    let planted = Planted::sound();
    planted.remove("examples/joined.out");
    found(&planted, "examples/joined.rs", "no examples/joined.out");
    let planted = Planted::sound();
    planted.remove("examples/joined.rs");
    found(&planted, "examples/joined.out", "no examples/joined.rs");
}

#[test]
fn a_name_that_is_used_twice_is_found() {
    let planted = Planted::sound();
    planted.add_recipe("other", "greet", "Another greeting");
    found(
        &planted,
        "crates/other/examples/greet.rs",
        "also the name of crates/demo/examples/greet.rs",
    );
    let planted = Planted::sound();
    planted.add_recipe("demo", "demo", "Named like its section");
    found(
        &planted,
        "crates/demo/examples/demo.rs",
        "also the name of crates/demo",
    );
}

#[test]
fn a_recipe_that_is_not_declared_is_found() {
    for declaration in ["", "mod greet;\n", "// pub mod greet;\n"] {
        let planted = Planted::sound();
        planted.edit("crates/demo/src/lib.rs", "pub mod greet;\n", declaration);
        found(
            &planted,
            RECIPE,
            "crates/demo/src/lib.rs does not declare it",
        );
    }
}

#[test]
fn a_recipe_that_is_not_on_the_shelf_is_found() {
    let planted = Planted::sound();
    planted.edit(
        "README.md",
        "[Greeting](crates/demo/src/greet.rs)",
        "`crates/demo/src/greet.rs`",
    );
    found(&planted, "README.md", "`greet` is not on the shelf");
}

#[test]
fn a_link_to_nothing_is_found() {
    let planted = Planted::sound();
    planted.write(
        "docs/more.md",
        "[up](../README.md#a-cookbook), [out](https://example.org), [gone](gone.md)\n",
    );
    found(&planted, "docs/more.md", "links to gone.md");
}

#[test]
fn lints_that_are_not_inherited_are_found() {
    let planted = Planted::sound();
    planted.edit(MANIFEST, "[lints]\nworkspace = true\n", "");
    found(&planted, MANIFEST, "lints");
    let planted = Planted::sound();
    planted.edit(
        "Cargo.toml",
        "[lints]\nworkspace = true\n",
        "[lints.rust]\nunused = \"allow\"\n",
    );
    found(&planted, "Cargo.toml", "lints");
}

#[test]
fn package_facts_that_are_not_inherited_are_found() {
    for (inherited, own) in [
        ("edition.workspace = true", "edition = \"2021\""),
        ("publish.workspace = true\n", ""),
        ("license.workspace = true", "license = \"MIT\""),
    ] {
        let planted = Planted::sound();
        planted.edit(MANIFEST, inherited, own);
        found(&planted, MANIFEST, "is not inherited");
    }
}

#[test]
fn a_version_outside_of_the_workspace_table_is_found() {
    for text in [
        "[dependencies]\nserde = \"1\"\n",
        "[dev-dependencies]\nserde = { version = \"1\" }\n",
        "[build-dependencies]\nserde = { path = \"../serde\" }\n",
        "[target.'cfg(unix)'.dependencies]\nserde = \"1\"\n",
    ] {
        let planted = Planted::sound();
        planted.write(MANIFEST, planted.read(MANIFEST) + text);
        planted.write(RECIPE, planted.read(RECIPE) + "\nuse serde::Serialize;\n");
        found(&planted, MANIFEST, "`serde` is not inherited");
    }
}

#[test]
fn a_section_that_depends_on_another_is_found_unless_it_is_for_tests() {
    let planted = Planted::sound();
    let manifest = planted.read(MANIFEST);
    planted.write(
        MANIFEST,
        manifest.clone() + "[dev-dependencies]\ncookbook.workspace = true\n",
    );
    let test = "crates/demo/tests/greet.rs";
    planted.write(test, planted.read(test) + "\nuse cookbook::Catalog;\n");
    assert!(check(planted.root()).is_empty());
    planted.write(
        MANIFEST,
        manifest + "[dependencies]\ncookbook.workspace = true\n",
    );
    planted.write(RECIPE, planted.read(RECIPE) + "\nuse cookbook::Catalog;\n");
    found(&planted, MANIFEST, "depends on `cookbook`");
}

#[test]
fn a_dependency_that_nothing_names_is_found() {
    let planted = Planted::sound();
    let manifest = planted.read(MANIFEST);
    let unused = "[dependencies]\nonce-cell.workspace = true\n";
    planted.write(MANIFEST, manifest.clone() + unused);
    found(
        &planted,
        MANIFEST,
        "`once-cell` in [dependencies] is named in no file",
    );
    let test = "crates/demo/tests/greet.rs";
    planted.write(test, planted.read(test) + "\nuse once_cell::sync::Lazy;\n");
    found(
        &planted,
        MANIFEST,
        "`once-cell` in [dependencies] is named in no file",
    );
    planted.write(MANIFEST, manifest + &unused.replace("[dep", "[dev-dep"));
    assert!(check(planted.root()).is_empty());
}

#[test]
fn a_section_that_may_print_is_found() {
    let planted = Planted::sound();
    planted.edit("crates/demo/src/lib.rs", ", clippy::print_stderr", "");
    found(&planted, "crates/demo/src/lib.rs", "clippy::print_stderr");
}

#[test]
fn prose_that_is_missing_or_out_of_order_is_found() {
    for (old, new, what) in [
        ("//! # Greeting: say hello\n", "", "no title"),
        (
            "//! A caller is to be greeted,\n//! by name.\n",
            "",
            "no paragraph",
        ),
        ("//! ## Watch out\n", "", "its headings"),
        ("## Use it when", "## When", "its headings"),
    ] {
        let planted = Planted::sound();
        planted.edit(RECIPE, old, new);
        let faults = check(planted.root());
        assert!(
            faults
                .iter()
                .any(|fault| fault.file == RECIPE && fault.what.contains(what)),
            "{what}: {faults:?}"
        );
    }
    let planted = Planted::sound();
    planted.edit(RECIPE, "## Use it when", "## swap");
    planted.edit(RECIPE, "## Use something else when", "## Use it when");
    planted.edit(RECIPE, "## swap", "## Use something else when");
    found(&planted, RECIPE, "its headings");
}

#[test]
fn a_harmful_twin_has_headings_of_its_own() {
    let planted = Planted::sound();
    planted.add_recipe("antipatterns", "shout", "Shouting");
    planted.edit(RECIPE, "- Names are not checked.", "- To `shout` harms.");
    assert_eq!(
        check(planted.root())
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        Vec::<String>::new()
    );
    let twin = "crates/antipatterns/src/shout.rs";
    planted.edit(twin, "## You have it when", "## Use it when");
    found(&planted, twin, "its headings are [\"Use it when\"");
}

#[test]
fn a_twin_without_a_cure_and_a_cure_without_a_warning_are_found() {
    let planted = Planted::sound();
    planted.add_recipe("antipatterns", "shout", "Shouting");
    found(&planted, RECIPE, "does not warn of `shout`");
    let twin = "crates/antipatterns/src/shout.rs";
    planted.edit(twin, "- `greet`, by name.", "- silence.");
    found(&planted, twin, "names no recipe that mends it");
}

#[test]
fn a_front_page_without_a_section_is_found() {
    let planted = Planted::sound();
    let shelf = "\n### [demo](crates/demo/src/lib.rs): greet\n";
    planted.write("README.md", planted.read("README.md") + shelf);
    let front = "crates/cookbook/src/lib.rs";
    found(
        &planted,
        front,
        "its table of the sections lacks `//! | [`demo`]",
    );
    let row = "//! | [`demo`](../demo/index.html) | greet |\n";
    planted.write(front, row);
    assert!(check(planted.root()).is_empty());
    planted.write(front, row.repeat(2));
    found(&planted, front, "is not the README's, in its order");
}

#[test]
fn a_page_that_leads_nowhere_is_found() {
    let page = "crates/demo/src/lib.rs";
    for (old, new, what) in [
        (
            "## Go on with",
            "## See also",
            "its last heading is `## See also`",
        ),
        (
            "#![warn",
            "//! ## Afterwards\n#![warn",
            "its last heading is `## Afterwards`",
        ),
        (
            "//! - [Rust](https://www.rust-lang.org/): the language.\n",
            "",
            "leads to 1 pages",
        ),
        (
            "https://www",
            "http://www",
            "links to `http://www.rust-lang.org/`",
        ),
        ("https://www.rust-lang.org/", "../std", "links to `../std`"),
        (
            "https://www.rust-lang.org/",
            "https://www.rust-lang.org/a b",
            "`- [Rust](https://www.rust-lang.org/a b): the language.` is no link",
        ),
        (
            "(https://www.rust-lang.org/)",
            "(<https://www.rust-lang.org/a b>)",
            "links to `https://www.rust-lang.org/a b`",
        ),
        ("[Rust](https://www.rust-lang.org/)", "Rust", "is no link"),
    ] {
        let planted = Planted::sound();
        planted.edit(page, old, new);
        found(&planted, page, what);
    }
    let planted = Planted::sound();
    planted.write(page, "//! # A section\n");
    let faults = check(planted.root());
    let what = "its last heading is `# A section`";
    assert!(faults.iter().any(|fault| fault.what == what), "{faults:?}");
}

#[test]
fn a_dependency_line_that_is_not_plain_is_found() {
    for line in [
        "cargo add tokio@1 --features rt",
        "cargo add tokio && rm -rf /",
        "cargo add 'tokio'",
        "cargo install tokio",
        "# tokio",
        "cargo add helper --path ../helper",
    ] {
        let planted = Planted::sound();
        planted.edit(RECIPE, "cargo add thiserror", line);
        found(&planted, RECIPE, "is not a plain `cargo add`");
    }
}

#[test]
fn a_dependency_line_that_takes_features_away_is_found() {
    let planted = Planted::sound();
    let line = "cargo add thiserror --no-default-features";
    planted.edit(RECIPE, "cargo add thiserror", line);
    found(&planted, RECIPE, "takes features away");
}

#[test]
fn a_recipe_that_does_not_say_what_it_needs_is_found() {
    let fence = "//! ```console\n//! cargo add thiserror\n//! ```\n";
    let planted = Planted::sound();
    planted.edit(RECIPE, fence, "");
    found(&planted, RECIPE, "nothing under `## Add to your project`");
    planted.edit(
        RECIPE,
        "## Add to your project\n",
        "## Add to your project\n//! Nothing: it is std alone.\n",
    );
    assert!(check(planted.root()).is_empty());
    let planted = Planted::sound();
    planted.edit(RECIPE, fence, &fence.repeat(2));
    found(&planted, RECIPE, "more than one console fence");
}

#[test]
fn an_example_that_does_not_say_how_to_run_it_is_found() {
    for (path, name) in [
        ("crates/demo/examples/greet.rs", "greet"),
        ("examples/joined.rs", "joined"),
    ] {
        let planted = Planted::sound();
        planted.edit(path, &format!("--example {name}\n"), "--example other\n");
        found(&planted, path, "its first line");
    }
}

#[test]
fn a_test_file_without_a_test_and_an_ignored_test_are_found() {
    let planted = Planted::sound();
    planted.edit("crates/demo/tests/greet.rs", "#[test]\n", "");
    found(&planted, "crates/demo/tests/greet.rs", "has no test");
    let planted = Planted::sound();
    planted.edit(
        "crates/demo/tests/greet.rs",
        "#[test]\n",
        "#[test]\n#[ignore = \"slow\"]\n",
    );
    found(&planted, "crates/demo/tests/greet.rs", "is ignored");
}

#[test]
fn an_async_function_that_does_not_say_what_a_drop_loses_is_found() {
    let planted = Planted::sound();
    planted.edit(RECIPE, "/// # Cancel safety\n", "/// # Cancellation\n");
    found(&planted, RECIPE, "`greet` does not say");
    for code in [
        "/// Doc.\npub struct Greeter;\nimpl Greeter {\n    /// Doc.\n    pub async fn late(&self) {}\n}\n",
        "/// Doc.\npub trait Greeter {\n    /// Doc.\n    async fn late(&self);\n}\n",
        "/// Doc.\npub fn late() -> impl std::future::Future<Output = ()> { async {} }\n",
        "/// Doc.\npub fn late() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> { Box::pin(async {}) }\n",
    ] {
        let planted = Planted::sound();
        planted.write(RECIPE, planted.read(RECIPE) + code);
        found(&planted, RECIPE, "`late` does not say");
    }
    for harmless in [
        "async fn private() {}\n",
        "pub(crate) async fn inner() {}\n",
        "struct S;\nimpl S { async fn own(&self) {} }\n",
    ] {
        let planted = Planted::sound();
        planted.write(RECIPE, planted.read(RECIPE) + harmless);
        assert!(check(planted.root()).is_empty(), "{harmless}");
    }
}

#[test]
fn a_path_out_of_the_file_is_found() {
    for code in [
        "use crate::other;\n",
        "use super::other;\n",
        "fn f() { g(&[crate::other::CONST]); }\n",
        "macro_rules! m { () => { $crate::other() } }\n",
    ] {
        let planted = Planted::sound();
        planted.write(RECIPE, planted.read(RECIPE) + code);
        found(&planted, RECIPE, "which is something else");
    }
    let planted = Planted::sound();
    let harmless = "// crate::other\n/// See `crate::other`.\npub(crate) fn f() -> &'static str { \"super::other\" }\n";
    planted.write(RECIPE, planted.read(RECIPE) + harmless);
    assert!(check(planted.root()).is_empty());
}

#[test]
fn a_fence_that_hides_code_from_the_compiler_is_found() {
    for tag in [
        "ignore",
        "no_run",
        "rust,ignore",
        "rs",
        "compile_fail,no_run",
        "bash",
    ] {
        let planted = Planted::sound();
        planted.edit(
            RECIPE,
            "/// The words, at once.\n",
            &format!("/// The words, at once.\n/// ```{tag}\n/// let x = 1;\n/// ```\n"),
        );
        found(&planted, RECIPE, &format!("tagged `{tag}`"));
    }
    for tag in [
        "",
        "rust",
        "compile_fail,E0277",
        "should_panic",
        "text",
        "toml",
        "console",
    ] {
        let planted = Planted::sound();
        planted.edit(
            RECIPE,
            "/// The words, at once.\n",
            &format!("/// The words, at once.\n/// ```{tag}\n/// let x = 1;\n/// ```\n"),
        );
        let faults = check(planted.root());
        assert!(faults.is_empty(), "{tag}: {faults:?}");
    }
    for tag in ["", "rust", "ignore"] {
        let planted = Planted::sound();
        planted.write(
            "README.md",
            planted.read("README.md") + &format!("\n```{tag}\nlet x = 1;\n```\n"),
        );
        found(&planted, "README.md", "a code fence is tagged");
    }
}
