//! The file system read as a catalogue: no list repeats it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::rust;

/// Crates under `crates/` that are tools and hold no recipes.
const TOOLS: [&str; 3] = ["cookbook", "harness", "servers"];

/// A section whose recipes show what not to do.
const HARMFUL_SECTION: &str = "antipatterns";

/// What the workspace holds, in reading order.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// The workspace's folder. All other paths are relative to it.
    pub root: PathBuf,
    /// In the order in which the README first links to their files; the others last, by name.
    pub sections: Vec<Section>,
    /// The programs in the root's `examples/` that have a recording, by name.
    pub programs: Vec<Example>,
}

/// A crate of recipes.
#[derive(Debug, Clone)]
pub struct Section {
    /// The folder's name under `crates/`.
    pub name: String,
    /// In the order of `pub mod` in the section's `src/lib.rs`; the others last, by name.
    pub recipes: Vec<Recipe>,
}

/// One recipe. What this serializes to is part of the interface of `list --json`; paths are relative
/// to the workspace, with `/`, and name where a file belongs, whether it is there or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recipe {
    /// The stem of its files, unique in the workspace.
    pub name: String,
    /// The section it is in.
    pub section: String,
    /// The text of the `# ` line, or the name where there is none.
    pub title: String,
    /// The first paragraph after the title, on one line.
    pub summary: String,
    /// The recipe: the file to copy.
    pub source: String,
    /// A program that uses it.
    pub example: String,
    /// What that program printed when it was recorded.
    pub output: String,
    /// The file with its tests.
    pub test_file: String,
    /// The `cargo add` lines under "Add to your project".
    pub cargo_add: Vec<String>,
}

/// A program that can be run and has a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// What `cargo run --example` calls it.
    pub name: String,
    /// The section it is in; none for a program of the root package.
    pub section: Option<String>,
    /// Its source.
    pub source: String,
    /// Its recording.
    pub output: String,
}

impl Recipe {
    /// Whether it shows what not to do: then it is run and read, and never copied.
    #[must_use]
    pub fn is_harmful(&self) -> bool {
        self.section == HARMFUL_SECTION
    }

    /// The recipe's example, to be run.
    #[must_use]
    pub fn as_example(&self) -> Example {
        Example {
            name: self.name.clone(),
            section: Some(self.section.clone()),
            source: self.example.clone(),
            output: self.output.clone(),
        }
    }
}

impl Catalog {
    /// The catalogue of the cookbook that `start` is in, or of the one this crate was built from.
    ///
    /// # Errors
    ///
    /// [`Error::NoCookbook`] if there is neither, and those of [`Catalog::load`].
    pub fn find(start: &Path) -> Result<Self> {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut candidates = start.ancestors().chain(built_from.ancestors());
        let root = candidates.find(|folder| is_root(folder));
        Self::load(root.ok_or_else(|| Error::NoCookbook(start.to_owned()))?)
    }

    /// The recipe that mends a harmful one: the first of another section that its prose names in
    /// backticks under "Use instead".
    ///
    /// # Errors
    ///
    /// [`Error::File`] or [`Error::NotUtf8`] if its source cannot be read.
    pub fn cure(&self, harmful: &Recipe) -> Result<Option<&Recipe>> {
        let source = self.read(&harmful.source)?;
        let prose = rust::header(&source).skip_while(|line| *line != "## Use instead");
        let prose: Vec<_> = prose.collect();
        let prose = prose.join("\n");
        let mut named = prose.split('`').skip(1).step_by(2);
        Ok(named.find_map(|name| self.recipe(name).ok().filter(|it| !it.is_harmful())))
    }

    /// The catalogue of the workspace in `root`.
    ///
    /// # Errors
    ///
    /// [`Error::File`] or [`Error::NotUtf8`] with the file that could not be read.
    pub fn load(root: &Path) -> Result<Self> {
        let mut sections = Vec::new();
        for name in names_in(&root.join("crates"), None)? {
            let lib = format!("crates/{name}/src/lib.rs");
            if !TOOLS.contains(&name.as_str()) && root.join(&lib).is_file() {
                let declared = rust::public_modules(&read(root, &lib)?);
                sections.push(Section {
                    recipes: recipes(root, &name, &declared)?,
                    name,
                });
            }
        }
        let readme = read_if_there(root, "README.md")?;
        sections.sort_by_key(|section| {
            readme
                .find(&format!("crates/{}/", section.name))
                .unwrap_or(usize::MAX)
        });
        let mut programs = Vec::new();
        for name in names_in(&root.join("examples"), Some("rs"))? {
            let output = format!("examples/{name}.out");
            if root.join(&output).is_file() {
                let source = format!("examples/{name}.rs");
                programs.push(Example {
                    name,
                    section: None,
                    source,
                    output,
                });
            }
        }
        Ok(Self {
            root: root.to_owned(),
            sections,
            programs,
        })
    }

    /// All recipes, in reading order.
    pub fn recipes(&self) -> impl Iterator<Item = &Recipe> {
        self.sections.iter().flat_map(|section| &section.recipes)
    }

    /// All that can be run: each recipe's example, then the programs of the root package.
    pub fn examples(&self) -> impl Iterator<Item = Example> {
        self.recipes()
            .map(Recipe::as_example)
            .chain(self.programs.iter().cloned())
    }

    /// The recipe of this name.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownName`] with the nearest names.
    pub fn recipe(&self, name: &str) -> Result<&Recipe> {
        let found = self.recipes().find(|recipe| recipe.name == name);
        found.ok_or_else(|| unknown("recipe", name, self.recipes().map(|recipe| &recipe.name)))
    }

    /// The section of this name.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownName`] with the nearest names.
    pub fn section(&self, name: &str) -> Result<&Section> {
        let found = self.sections.iter().find(|section| section.name == name);
        found.ok_or_else(|| {
            unknown(
                "section",
                name,
                self.sections.iter().map(|section| &section.name),
            )
        })
    }

    /// The examples that these names mean, without repetition: recipes, programs of the root
    /// package, and sections, which mean all examples in them.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownName`] with the nearest names.
    pub fn examples_named(&self, names: &[String]) -> Result<Vec<Example>> {
        let all: Vec<_> = self.examples().collect();
        let mut chosen: Vec<Example> = Vec::new();
        for name in names {
            let exact = |example: &&Example| example.name == *name;
            let in_section = |example: &&Example| example.section.as_ref() == Some(name);
            let mut meant: Vec<_> = all.iter().filter(exact).collect();
            if meant.is_empty() {
                meant.extend(all.iter().filter(in_section));
            }
            if meant.is_empty() && self.section(name).is_err() {
                let sections = self.sections.iter().map(|section| &section.name);
                let known = all.iter().map(|example| &example.name).chain(sections);
                return Err(unknown("recipe or section", name, known));
            }
            for example in meant {
                if !chosen.contains(example) {
                    chosen.push(example.clone());
                }
            }
        }
        Ok(chosen)
    }

    /// The names of the recipe's tests, in order. Read when asked for: to list titles, that would be
    /// most of the work.
    ///
    /// # Errors
    ///
    /// [`Error::File`] or [`Error::NotUtf8`].
    pub fn tests(&self, recipe: &Recipe) -> Result<Vec<String>> {
        Ok(rust::test_functions(&read_if_there(
            &self.root,
            &recipe.test_file,
        )?))
    }

    /// What `list --json` prints for these sections.
    ///
    /// # Errors
    ///
    /// Those of [`tests`](Self::tests).
    pub fn json(&self, sections: &[Section]) -> Result<String> {
        #[derive(Serialize)]
        struct Listed<'catalog> {
            #[serde(flatten)]
            recipe: &'catalog Recipe,
            tests: Vec<String>,
        }
        let recipes = sections.iter().flat_map(|section| &section.recipes);
        let listed = recipes.map(|recipe| {
            Ok(Listed {
                recipe,
                tests: self.tests(recipe)?,
            })
        });
        let listed: Vec<_> = listed.collect::<Result<_>>()?;
        serde_json::to_string_pretty(&listed).map_err(|error| Error::Output(error.into()))
    }

    /// The text of a file of the catalogue.
    ///
    /// # Errors
    ///
    /// [`Error::File`] or [`Error::NotUtf8`].
    pub fn read(&self, path: &str) -> Result<String> {
        read(&self.root, path)
    }
}

fn is_root(folder: &Path) -> bool {
    folder.join("crates/cookbook").is_dir()
        && fs::read_to_string(folder.join("Cargo.toml"))
            .is_ok_and(|manifest| manifest.lines().any(|line| line.trim() == "[workspace]"))
}

fn recipes(root: &Path, section: &str, declared: &[String]) -> Result<Vec<Recipe>> {
    let mut recipes = Vec::new();
    for name in names_in(&root.join("crates").join(section).join("src"), Some("rs"))? {
        if name == "lib" {
            continue;
        }
        let path =
            |folder: &str, extension| format!("crates/{section}/{folder}/{name}.{extension}");
        let (source, test_file) = (path("src", "rs"), path("tests", "rs"));
        let text = read(root, &source)?;
        let page = Page::of(&text);
        recipes.push(Recipe {
            section: section.to_owned(),
            title: page.title.unwrap_or(&name).to_owned(),
            summary: page.summary,
            example: path("examples", "rs"),
            output: path("examples", "out"),
            cargo_add: page.cargo_add,
            source,
            test_file,
            name,
        });
    }
    let place = |recipe: &Recipe| declared.iter().position(|name| *name == recipe.name);
    recipes.sort_by_key(|recipe| place(recipe).unwrap_or(usize::MAX));
    Ok(recipes)
}

/// What the prose at the head of a recipe says.
struct Page<'text> {
    title: Option<&'text str>,
    summary: String,
    cargo_add: Vec<String>,
}

impl<'text> Page<'text> {
    fn of(source: &'text str) -> Self {
        let lines: Vec<_> = rust::header(source).collect();
        let title = lines.iter().find_map(|line| line.strip_prefix("# "));
        let after_title = lines
            .iter()
            .skip_while(|line| !line.starts_with("# "))
            .skip(1);
        let paragraph = after_title
            .skip_while(|line| line.trim().is_empty())
            .take_while(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let summary = paragraph
            .map(|line| line.trim())
            .collect::<Vec<_>>()
            .join(" ");
        let fence = lines
            .iter()
            .skip_while(|line| **line != "## Add to your project")
            .skip(1)
            .take_while(|line| !line.starts_with("## "))
            .skip_while(|line| **line != "```console")
            .skip(1)
            .take_while(|line| !line.starts_with("```"));
        let cargo_add = fence.filter(|line| line.starts_with("cargo add"));
        let cargo_add = cargo_add.map(|line| (*line).to_owned()).collect();
        Self {
            title: title.map(str::trim),
            summary,
            cargo_add,
        }
    }
}

fn read(root: &Path, path: &str) -> Result<String> {
    let path = root.join(path);
    fs::read_to_string(&path).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidData => Error::NotUtf8(path),
        _ => Error::File {
            action: "read",
            path,
            source,
        },
    })
}

/// The text of the file, empty if there is none.
fn read_if_there(root: &Path, path: &str) -> Result<String> {
    match read(root, path) {
        Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(String::new())
        }
        other => other,
    }
}

/// The names in a folder, sorted, none if there is no such folder: of the folders in it, or the
/// stems of the files with this extension.
fn names_in(folder: &Path, extension: Option<&str>) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::file("read", folder))?.path();
        let wanted = match extension {
            None => path.is_dir(),
            Some(extension) => path.is_file() && path.extension().is_some_and(|it| it == extension),
        };
        if wanted {
            names.extend(
                path.file_stem()
                    .and_then(|stem| stem.to_str())
                    .map(str::to_owned),
            );
        }
    }
    names.sort();
    Ok(names)
}

fn unknown<'names>(
    sought: &'static str,
    name: &str,
    known: impl Iterator<Item = &'names String>,
) -> Error {
    let likeness = |known: &String| {
        let contained = name.len() > 2 && known.contains(name);
        if contained {
            1.0
        } else {
            strsim::jaro_winkler(known, name)
        }
    };
    let mut ranked: Vec<_> = known.map(|known| (likeness(known), known)).collect();
    ranked.retain(|(likeness, _)| *likeness > 0.75);
    ranked.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let nearest = ranked
        .into_iter()
        .take(3)
        .map(|(_, name)| name.clone())
        .collect();
    Error::UnknownName {
        sought,
        name: name.to_owned(),
        nearest,
    }
}
