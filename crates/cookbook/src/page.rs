//! A recipe as a page for the terminal.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};

use crate::catalog::{Catalog, Recipe};
use crate::error::Result;
use crate::rust;

const HEADING: Style = AnsiColor::Yellow.on_default().bold();

/// The recipe's prose, code, example, recorded output and guarantees, with the colours of a
/// terminal; `anstream` takes them out where they are not wanted.
///
/// # Errors
///
/// [`Error::File`](crate::Error::File) or [`Error::NotUtf8`](crate::Error::NotUtf8) if one of the
/// recipe's files cannot be read.
pub fn page(catalog: &Catalog, recipe: &Recipe) -> Result<String> {
    let source = catalog.read(&recipe.source)?;
    let mut page = String::new();
    for line in rust::header(&source) {
        let style = if line.starts_with('#') {
            HEADING
        } else {
            Style::new()
        };
        push(&mut page, format_args!("{style}{line}{style:#}\n"));
    }
    let prose = rust::header(&source).count();
    let code: String = source.split_inclusive('\n').skip(prose).collect();
    heading(&mut page, "The code", &recipe.source);
    push(
        &mut page,
        format_args!("{}\n", rust::highlighted(code.trim())),
    );
    heading(&mut page, "Run it", &recipe.example);
    push(
        &mut page,
        format_args!("cargo run --example {}\n", recipe.name),
    );
    heading(&mut page, "It printed", &recipe.output);
    match catalog.read(&recipe.output) {
        Ok(output) => push(&mut page, format_args!("{}\n", output.trim_end())),
        Err(_) => push(
            &mut page,
            format_args!("(no recording: `cargo cookbook record {}`)\n", recipe.name),
        ),
    }
    heading(&mut page, "Its tests guarantee", &recipe.test_file);
    for test in catalog.tests(recipe)? {
        push(&mut page, format_args!("- {test}\n"));
    }
    if !recipe.is_harmful() {
        heading(&mut page, "Copy it into your project", "");
        push(
            &mut page,
            format_args!("cargo cookbook copy {} --to DIR\n", recipe.name),
        );
    } else if let Some(cure) = catalog.cure(recipe)? {
        heading(&mut page, "Not for copying: see what mends it", "");
        push(
            &mut page,
            format_args!("cargo cookbook show {}\n", cure.name),
        );
    }
    Ok(page)
}

fn heading(page: &mut String, text: &str, path: &str) {
    let path = if path.is_empty() {
        String::new()
    } else {
        format!(" ({path})")
    };
    push(
        page,
        format_args!("\n{HEADING}## {text}{HEADING:#}{path}\n"),
    );
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ok = page.write_fmt(text);
}
