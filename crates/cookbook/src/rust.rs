//! Facts read off Rust source text, by the compiler's own lexer.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use ra_ap_rustc_lexer::{FrontmatterAllowed, LiteralKind, TokenKind, tokenize};

/// Each token with its text.
pub(crate) fn tokens(source: &str) -> impl Iterator<Item = (TokenKind, &str)> {
    let mut rest = source;
    tokenize(source, FrontmatterAllowed::No).map_while(move |token| {
        let (text, tail) = rest.split_at_checked(usize::try_from(token.len).ok()?)?;
        rest = tail;
        Some((token.kind, text))
    })
}

/// The tokens that mean something to the compiler.
fn code(source: &str) -> Vec<&str> {
    let is_code = |kind: &TokenKind| {
        !matches!(
            kind,
            TokenKind::Whitespace | TokenKind::LineComment { .. } | TokenKind::BlockComment { .. }
        )
    };
    tokens(source)
        .filter(|(kind, _)| is_code(kind))
        .map(|(_, text)| text)
        .collect()
}

/// The modules that the source declares by `pub mod name;`, in order.
pub(crate) fn public_modules(source: &str) -> Vec<String> {
    let code = code(source);
    let declared = code.windows(4).filter_map(|window| match window {
        ["pub", "mod", name, ";"] => Some((*name).to_owned()),
        _ => None,
    });
    declared.collect()
}

/// The functions with an attribute whose path ends in `test`, in order.
pub(crate) fn test_functions(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    let mut rest = code(source).into_iter();
    while let Some(token) = rest.next() {
        match token {
            "#" => {
                // The path is all that comes before an argument list, a value or the end.
                let mut path = "";
                let mut depth = 0_u32;
                let mut in_path = true;
                for token in rest.by_ref() {
                    match token {
                        "[" | "(" => depth += 1,
                        "]" | ")" => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    in_path &= !matches!(token, "(" | "=" | "]");
                    if in_path {
                        path = token;
                    }
                    if depth == 0 && token != "!" {
                        break;
                    }
                }
                is_test |= path == "test";
            }
            "fn" => {
                let name = rest.next();
                names.extend(name.filter(|_| is_test).map(str::to_owned));
                is_test = false;
            }
            _ => {}
        }
    }
    names
}

/// The text of the `//!` lines that the source begins with, without the slashes.
pub(crate) fn header(source: &str) -> impl Iterator<Item = &str> {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line))
}

/// What a line of a recipe can be found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matter {
    /// Documentation, `//!` or `///`.
    Prose,
    /// A comment for those who read on.
    Comment,
    /// The name of a public item.
    PublicName,
    /// A string literal: an error's message, a symptom.
    Literal,
}

/// All that can be searched in the source: the line's number from 1, what it is, and its text.
pub(crate) fn matters(source: &str) -> Vec<(usize, Matter, &str)> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut is_public = false;
    let mut expects_name = false;
    for (kind, text) in tokens(source) {
        let matter = match kind {
            TokenKind::LineComment { doc_style: Some(_) } => Some(Matter::Prose),
            TokenKind::LineComment { .. } | TokenKind::BlockComment { .. } => Some(Matter::Comment),
            TokenKind::Literal {
                kind: LiteralKind::Str { .. } | LiteralKind::RawStr { .. },
                ..
            } => Some(Matter::Literal),
            TokenKind::Ident if expects_name => {
                expects_name = false;
                Some(Matter::PublicName)
            }
            TokenKind::Ident => {
                const ITEMS: [&str; 6] = ["fn", "struct", "enum", "trait", "type", "static"];
                const BEFORE: [&str; 3] = ["async", "const", "unsafe"];
                expects_name = is_public && ITEMS.contains(&text);
                is_public = text == "pub" || is_public && BEFORE.contains(&text);
                None
            }
            TokenKind::Whitespace => None,
            _ => {
                is_public = false;
                None
            }
        };
        if let Some(matter) = matter {
            let lines = text.lines().enumerate();
            found.extend(lines.map(|(offset, text)| (line + offset, matter, text)));
        }
        line += text.matches('\n').count();
    }
    found
}

/// The source with colours for a terminal.
pub(crate) fn highlighted(source: &str) -> String {
    let mut page = String::with_capacity(source.len() * 2);
    for (kind, text) in tokens(source) {
        let style = style(kind, text);
        // Style each line by itself: pagers forget the colour at the line's end.
        for (number, line) in text.split('\n').enumerate() {
            let newline = if number == 0 { "" } else { "\n" };
            let styled = if line.is_empty() { Style::new() } else { style };
            // Writing to a String cannot fail.
            let _ok = write!(page, "{newline}{styled}{line}{styled:#}");
        }
    }
    page
}

fn style(kind: TokenKind, text: &str) -> Style {
    const KEYWORDS: [&str; 38] = [
        "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum",
        "extern", "false", "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move",
        "mut", "pub", "ref", "return", "self", "Self", "static", "struct", "super", "trait",
        "true", "type", "unsafe", "use", "where", "while",
    ];
    let color = match kind {
        TokenKind::LineComment { .. } | TokenKind::BlockComment { .. } => AnsiColor::BrightBlack,
        TokenKind::Literal { .. } => AnsiColor::Green,
        TokenKind::Lifetime { .. } | TokenKind::Pound => AnsiColor::Yellow,
        TokenKind::Ident if KEYWORDS.contains(&text) => AnsiColor::Magenta,
        TokenKind::Ident if text.starts_with(|first: char| first.is_ascii_uppercase()) => {
            AnsiColor::Cyan
        }
        _ => return Style::new(),
    };
    color.on_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_functions_are_those_whose_attribute_path_ends_in_test() {
        let source = r##"
            #![cfg(test)]
            // #[test] fn in_a_comment() {}
            #[test] fn plain() { let text = "#[test] fn in_a_string() {}"; }
            fn helper() {}
            #[tokio::test(start_paused = true)]
            #[should_panic(expected = "]")]
            async fn paused() {}
            #[cfg(test)] fn only_compiled_for_tests() {}
            #[cfg(unix)] #[test]
            pub async unsafe fn under_a_cfg() {}
            #[tokio::main] fn main() {}
            #[doc = "test"] fn documented() {}
        "##;
        assert_eq!(test_functions(source), ["plain", "paused", "under_a_cfg"]);
    }

    #[test]
    fn public_modules_keep_their_order_and_leave_out_the_private_and_the_commented() {
        let source = "mod a;\n// pub mod b;\npub mod z;\npub mod y;\npub mod inline {}";
        assert_eq!(public_modules(source), ["z", "y"]);
    }

    #[test]
    fn what_can_be_searched_has_its_line_number() {
        let source = "//! prose\n\n/// doc\npub async fn name(a: &str) -> Pub {\n    // why\n    let hidden = \"one\n two\";\n}\npub(crate) fn private() {}\n";
        let expected = [
            (1, Matter::Prose, "//! prose"),
            (3, Matter::Prose, "/// doc"),
            (4, Matter::PublicName, "name"),
            (5, Matter::Comment, "// why"),
            (6, Matter::Literal, "\"one"),
            (7, Matter::Literal, " two\""),
        ];
        assert_eq!(matters(source), expected);
    }

    #[test]
    fn colours_change_nothing_but_the_colours() {
        let source = "/* a\n b */ fn f<'a>(x: &'a str) -> String { \"é\n\".into() } // end\n";
        let coloured = highlighted(source);
        assert!(coloured.contains("\u{1b}[35mfn\u{1b}[0m"), "{coloured:?}");
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), source);
    }
}
