//! Finding a recipe by what one knows: the job, a name from its API, the message of an error.

use std::collections::HashMap;

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
    Ok(Index::new(catalog)?.search(query))
}

/// All that can be found, read once for many questions.
#[derive(Debug)]
pub struct Index<'catalog>(Vec<Page<'catalog>>);

impl<'catalog> Index<'catalog> {
    /// Reads every recipe, and the page of symptoms.
    ///
    /// # Errors
    ///
    /// Those of [`search`].
    pub fn new(catalog: &'catalog Catalog) -> Result<Self> {
        let symptoms = symptoms(catalog)?;
        let page = |recipe: &'catalog Recipe| {
            Ok(Page::new(recipe, &catalog.read(&recipe.source)?, &symptoms))
        };
        Ok(Self(catalog.recipes().map(page).collect::<Result<_>>()?))
    }

    /// As [`search`] does.
    #[must_use]
    pub fn search(&self, query: &[String]) -> Vec<Hit<'catalog>> {
        let mut wanted: Vec<String> = query.iter().flat_map(|text| words(text)).collect();
        wanted.sort();
        wanted.dedup();
        // A message is mostly made of words that every page has; what is left tells pages apart.
        if wanted.iter().any(|word| !is_filler(word)) {
            wanted.retain(|word| !is_filler(word));
        }
        let mut most_words = 1;
        let mut hits = Vec::new();
        for page in &self.0 {
            let (matched, hit) = page.look(&wanted);
            if matched > most_words {
                most_words = matched;
                hits.clear();
            }
            if matched == most_words {
                hits.push(hit);
            }
        }
        hits.sort_by_key(|hit| std::cmp::Reverse((hit.together, hit.score)));
        hits
    }
}

/// What a recipe can be found by.
#[derive(Debug)]
struct Page<'catalog> {
    recipe: &'catalog Recipe,
    /// Each word once.
    words: Vec<String>,
    lines: Vec<Line<'catalog>>,
}

#[derive(Debug)]
struct Line<'catalog> {
    file: &'catalog str,
    number: usize,
    shown: String,
    /// Places in the page's words.
    words: Vec<usize>,
    weight: u32,
}

impl<'catalog> Page<'catalog> {
    fn new(recipe: &'catalog Recipe, source: &str, symptoms: &[Symptom]) -> Self {
        let lines: Vec<_> = source.lines().collect();
        let mut vocabulary = HashMap::new();
        let mut places = |text: &str| -> Vec<usize> {
            words(text)
                .map(|word| {
                    let next = vocabulary.len();
                    *vocabulary.entry(word).or_insert(next)
                })
                .collect()
        };
        let mut line = |number: usize, weight, text: &str| Line {
            file: recipe.source.as_str(),
            number,
            shown: lines
                .get(number - 1)
                .map(|line| {
                    line.trim_start_matches(['/', '!', ' '])
                        .trim_end()
                        .to_owned()
                })
                .unwrap_or_default(),
            words: places(text),
            weight,
        };
        let mut all = vec![line(1, 12, &recipe.title), line(1, 12, &recipe.name)];
        for (number, matter, text) in matters(source) {
            let weight = match matter {
                Matter::PublicName => 6,
                Matter::Literal => 5,
                Matter::Prose => 4,
                Matter::Comment => 2,
            };
            all.push(line(number, weight, text));
        }
        for symptom in symptoms
            .iter()
            .filter(|it| it.links.contains(&recipe.source))
        {
            all.push(Line {
                file: SYMPTOMS,
                number: symptom.line_number,
                shown: symptom.seen.clone(),
                words: places(&symptom.seen),
                weight: 7,
            });
        }
        let mut vocabulary: Vec<_> = vocabulary.into_iter().collect();
        vocabulary.sort_by_key(|(_, place)| *place);
        Self {
            recipe,
            words: vocabulary.into_iter().map(|(word, _)| word).collect(),
            lines: all,
        }
    }

    /// How many of the words the recipe has, and its best line.
    fn look(&self, wanted: &[String]) -> (usize, Hit<'catalog>) {
        let closeness_of = |wanted: &String| -> Vec<u32> {
            self.words.iter().map(|it| closeness(wanted, it)).collect()
        };
        let closeness: Vec<_> = wanted.iter().map(closeness_of).collect();
        let mut best_of_word = vec![0; wanted.len()];
        let (mut best_of_line, mut best_line) = ((0, 0), self.lines.first());
        for line in &self.lines {
            let mut of_line = (0, 0);
            for (closeness, best) in closeness.iter().zip(&mut best_of_word) {
                let there = line.words.iter().filter_map(|place| closeness.get(*place));
                let closeness = there.copied().max().unwrap_or(0);
                *best = (*best).max(closeness * line.weight);
                of_line.0 += u32::from(closeness > 0);
                of_line.1 += closeness * line.weight;
            }
            // The line with the most of the words tells the most, wherever it stands.
            if of_line > best_of_line {
                (best_of_line, best_line) = (of_line, Some(line));
            }
        }
        let hit = Hit {
            recipe: self.recipe,
            file: best_line.map_or(SYMPTOMS, |line| line.file),
            line_number: best_line.map_or(1, |line| line.number),
            line: best_line.map(|line| line.shown.clone()).unwrap_or_default(),
            together: best_of_line.0,
            // Words that stand together on one line say more than the same words scattered.
            score: best_of_word.iter().sum::<u32>() + best_of_line.1,
        };
        (best_of_word.iter().filter(|best| **best > 0).count(), hit)
    }
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
