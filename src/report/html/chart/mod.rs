//! Charts as SVG, drawn twice: once for a desk and once for a phone, so that letters stay legible on both.

mod bars;
mod forest;
mod grid;
mod plot;
mod scale;
mod svg;

pub use bars::{Bar, Bars, Part};
pub use forest::{Forest, Lean};
pub use grid::{Grid, GridCell};
pub use plot::{Axis, Mark, Plot, Point, Pointing, Series, Style, sparkline};
pub use scale::Scale;
pub use svg::{Anchor, Svg, escape, json_in_script};

/// For which width a chart is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// A desk or a sheet of paper.
    Wide,
    /// A phone.
    Narrow,
}

impl Width {
    /// In CSS pixels.
    pub fn px(self) -> f64 {
        match self {
            Width::Wide => 760.0,
            Width::Narrow => 350.0,
        }
    }
}

/// How wide a text of the charts' size is, in pixels: near enough to keep labels apart.
fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 6.7
}
