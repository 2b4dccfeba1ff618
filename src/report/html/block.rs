//! What a page is made of: groups of sections, of texts, tables and figures. The templates alone turn them into HTML.

use super::chart::{Bars, Forest, Grid, Plot, Width, json_in_script};

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// Smaller below it, such as an interval.
    pub sub: Option<String>,
    /// `best`, `tie`, `failed`, `differs`, `good`, or nothing: what the style sheet knows.
    pub class: &'static str,
    /// A word that says what the class shows, for those who don't see it.
    pub badge: Option<&'static str>,
    /// Where it leads, within these pages.
    pub link: Option<String>,
    /// A drawing of our own, in place of the text.
    pub drawing: Option<String>,
}

impl Cell {
    /// A bare text.
    pub fn text(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), ..Cell::default() }
    }
}

/// A row of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Its first cell, a heading.
    pub head: Cell,
    /// The others.
    pub cells: Vec<Cell>,
    /// A heading over the rows below it: it has no cells.
    pub group: bool,
}

impl Row {
    /// A row of texts.
    pub fn of(head: impl Into<String>, cells: impl IntoIterator<Item = String>) -> Row {
        Row { head: Cell::text(head), cells: cells.into_iter().map(Cell::text).collect(), group: false }
    }

    /// A heading over rows.
    pub fn group(head: impl Into<String>) -> Row {
        Row { head: Cell::text(head), cells: Vec::new(), group: true }
    }
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// The columns, that of the rows' headings first.
    pub head: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
    /// The class of the whole: `plain`, `words`, or `score` for one whose colours mean something.
    pub class: &'static str,
}

impl Table {
    /// A table of texts.
    pub fn of(caption: impl Into<String>, head: &[&str], rows: Vec<Row>) -> Table {
        let head = head.iter().map(|&name| name.to_owned()).collect();
        Table { caption: caption.into(), head, rows, class: "plain" }
    }

    /// How many cells a row spans that is a heading over others.
    pub fn columns(&self) -> usize {
        self.head.len()
    }
}

/// One drawing of a figure, for both widths.
#[derive(Clone, Debug)]
pub struct View {
    /// What tells it from the figure's other views.
    pub label: String,
    /// For a desk.
    pub wide: String,
    /// For a phone.
    pub narrow: String,
    /// What a pointer finds in it, as JSON.
    pub pointed: Option<String>,
}

impl View {
    /// Of a plot.
    pub fn plot(label: &str, plot: &Plot) -> View {
        View {
            label: label.to_owned(),
            wide: plot.draw(Width::Wide),
            narrow: plot.draw(Width::Narrow),
            pointed: Some(json_in_script(&plot.pointed())),
        }
    }

    /// Of bars.
    pub fn bars(bars: &Bars) -> View {
        View { label: String::new(), wide: bars.draw(Width::Wide), narrow: bars.draw(Width::Narrow), pointed: None }
    }

    /// Of a forest plot.
    pub fn forest(forest: &Forest) -> View {
        View { label: String::new(), wide: forest.draw(Width::Wide), narrow: forest.draw(Width::Narrow), pointed: None }
    }

    /// Of a map.
    pub fn grid(grid: &Grid) -> View {
        View { label: String::new(), wide: grid.draw(Width::Wide), narrow: grid.draw(Width::Narrow), pointed: None }
    }
}

/// A chart with what is said about it and the table behind it.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its name in links and in the page: ASCII letters, digits and hyphens.
    pub id: String,
    /// Its title.
    pub title: String,
    /// How it is to be read.
    pub note: String,
    /// Colours and what they stand for.
    pub legend: Vec<(usize, String)>,
    /// Whether the drawing does not say it itself, even where there is room.
    pub unlabelled: bool,
    /// One, or several to choose from.
    pub views: Vec<View>,
    /// The same as figures.
    pub table: Table,
}

/// A point of a list, with a word before it.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its place in the palette, if it belongs to a strategy.
    pub color: Option<usize>,
    /// What it is about.
    pub term: String,
    /// `good`, `differs`, `failed`, `plain`.
    pub class: &'static str,
    /// In one or two words.
    pub badge: String,
    /// What is said.
    pub text: String,
}

/// A piece of a section.
#[derive(Clone, Debug)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Something that must not be missed.
    Alarm(String),
    /// A list.
    Items(Vec<Item>),
    /// Colours and what they stand for.
    Key(Vec<(usize, String)>),
    /// Words and what they mean.
    Terms(Vec<(String, String)>),
    /// A table that is always seen.
    Table(Table),
    /// A table that opens.
    Folded(String, Table),
    /// A chart.
    Figure(Box<Figure>),
    /// A drawing that needs no table: its text says the same.
    Drawing(String, Vec<(String, String)>),
}

/// A section.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name in links.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its short name in the list of contents.
    pub short: &'static str,
    /// What is in it.
    pub blocks: Vec<Block>,
}

/// Sections about one thing.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name in links.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Facts in one line below it.
    pub facts: Vec<String>,
    /// Its sections.
    pub sections: Vec<Section>,
}

/// Something as an HTML id: what is not a letter or a digit becomes a hyphen.
pub fn id_of(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}
