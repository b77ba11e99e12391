//! Finding a recipe by what one knows: the job, a name from its API, the message of an error.

use crate::catalog::{Catalog, Recipe};
use crate::error::Result;
use crate::rust::{Matter, matters};

/// The page that leads from what one sees to the recipes that it links to, in a table.
const SYMPTOMS: &str = "SYMPTOMS.md";

/// A recipe that was found, and why.
#[derive(Debug)]
pub struct Hit<'catalog> {
    /// The recipe.
    pub recipe: &'catalog Recipe,
    /// The file with the line that matched best: the recipe's, or the page of symptoms.
    pub file: &'catalog str,
    /// Which line of it, from 1.
    pub line_number: usize,
    /// That line, without the slashes of a comment; of a table, its first cell.
    pub line: String,
    /// How many of the words stand together on that line.
    together: u32,
    score: u32,
}

/// The recipes that match the most of the words, best first. Punctuation separates words, so that a
/// whole error message can be given; case makes no difference.
///
/// A row of the page `SYMPTOMS.md` belongs to the recipes that it links to.
///
/// # Errors
///
/// [`Error::File`](crate::Error::File) or [`Error::NotUtf8`](crate::Error::NotUtf8) if a recipe
/// or the page cannot be read.
pub fn search<'catalog>(
    catalog: &'catalog Catalog,
    query: &[String],
) -> Result<Vec<Hit<'catalog>>> {
    let mut wanted: Vec<String> = query.iter().flat_map(|text| words(text)).collect();
    wanted.sort();
    wanted.dedup();
    // A message is mostly made of words that every page has; what is left tells pages apart.
    if wanted.iter().any(|word| !is_filler(word)) {
        wanted.retain(|word| !is_filler(word));
    }
    let symptoms = symptoms(catalog)?;
    let mut most_words = 1;
    let mut hits = Vec::new();
    for recipe in catalog.recipes() {
        let source = catalog.read(&recipe.source)?;
        let (matched, hit) = look(recipe, &source, &symptoms, &wanted);
        if matched > most_words {
            most_words = matched;
            hits.clear();
        }
        if matched == most_words {
            hits.push(hit);
        }
    }
    hits.sort_by_key(|hit| std::cmp::Reverse((hit.together, hit.score)));
    Ok(hits)
}

/// How many of the words the recipe has, and its best line.
fn look<'catalog>(
    recipe: &'catalog Recipe,
    source: &str,
    symptoms: &[Symptom],
    wanted: &[String],
) -> (usize, Hit<'catalog>) {
    let mut best_of_word = vec![0; wanted.len()];
    let (mut best_of_line, mut best_line) = ((0, 0), Line::Of(1));
    let title = (Line::Of(1), 12, recipe.title.as_str());
    let name = (Line::Of(1), 12, recipe.name.as_str());
    let lines = matters(source).into_iter().map(|(number, matter, text)| {
        let weight = match matter {
            Matter::PublicName => 6,
            Matter::Literal => 5,
            Matter::Prose => 4,
            Matter::Comment => 2,
        };
        (Line::Of(number), weight, text)
    });
    let its_symptoms = symptoms
        .iter()
        .filter(|symptom| symptom.links.contains(&recipe.source));
    let its_symptoms = its_symptoms.map(|it| (Line::OfSymptoms(it), 7, it.seen.as_str()));
    let all = [title, name].into_iter().chain(lines).chain(its_symptoms);
    for (number, weight, text) in all {
        let there: Vec<_> = words(text).collect();
        let mut of_line = (0, 0);
        for (word, best) in wanted.iter().zip(&mut best_of_word) {
            let closeness = there
                .iter()
                .map(|it| closeness(word, it))
                .max()
                .unwrap_or(0);
            *best = (*best).max(closeness * weight);
            of_line.0 += u32::from(closeness > 0);
            of_line.1 += closeness * weight;
        }
        // The line with the most of the words tells the most, wherever it stands.
        if of_line > best_of_line {
            (best_of_line, best_line) = (of_line, number);
        }
    }
    let (file, line_number, line) = match best_line {
        Line::Of(number) => {
            let line = source.lines().nth(number - 1).unwrap_or_default();
            let line = line.trim_start_matches(['/', '!', ' ']).trim_end();
            (recipe.source.as_str(), number, line)
        }
        Line::OfSymptoms(symptom) => (SYMPTOMS, symptom.line_number, symptom.seen.as_str()),
    };
    let hit = Hit {
        recipe,
        file,
        line_number,
        line: line.to_owned(),
        together: best_of_line.0,
        // Words that stand together on one line say more than the same words scattered.
        score: best_of_word.iter().sum::<u32>() + best_of_line.1,
    };
    (best_of_word.iter().filter(|best| **best > 0).count(), hit)
}

/// Where a line is that has some of the words.
#[derive(Clone, Copy)]
enum Line<'symptoms> {
    Of(usize),
    OfSymptoms(&'symptoms Symptom),
}

/// A row of the page of symptoms.
struct Symptom {
    line_number: usize,
    /// The first cell: a message, or what one sees.
    seen: String,
    /// The files that the row links to.
    links: Vec<String>,
}

fn symptoms(catalog: &Catalog) -> Result<Vec<Symptom>> {
    if !catalog.root.join(SYMPTOMS).is_file() {
        return Ok(Vec::new());
    }
    let page = catalog.read(SYMPTOMS)?;
    let rows = page.lines().zip(1..).filter_map(|(line, line_number)| {
        let (seen, rest) = line.strip_prefix("| ")?.split_once(" | ")?;
        let links = rest.split("](").skip(1);
        let links = links.filter_map(|link| Some(link.split_once(')')?.0.to_owned()));
        Some(Symptom {
            line_number,
            seen: seen.replace('`', ""),
            links: links.collect(),
        })
    });
    Ok(rows.collect())
}

/// Whether the word says nothing of its own.
fn is_filler(word: &str) -> bool {
    const FILLER: &[&str] = &[
        "a", "an", "and", "are", "as", "at", "be", "been", "by", "cannot", "for", "from", "has",
        "have", "in", "is", "it", "must", "no", "not", "of", "on", "or", "t", "that", "the", "to",
        "was", "when", "with",
    ];
    FILLER.contains(&word)
}

fn words(text: &str) -> impl Iterator<Item = String> {
    let words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.map(str::to_lowercase)
}

/// 3 the same word, 2 the beginning of it, 1 a part of it. A plural finds its singular.
fn closeness(wanted: &str, word: &str) -> u32 {
    let singular = wanted
        .strip_suffix('s')
        .filter(|stem| stem.len() > 2)
        .unwrap_or(wanted);
    if word == wanted || word == singular {
        3
    } else if word.starts_with(singular) {
        2
    } else {
        u32::from(singular.len() > 3 && word.contains(singular))
    }
}
