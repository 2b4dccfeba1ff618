//! A map of cells: two quantities in steps, and what is best at each pair.

use super::svg::{Anchor, Svg};
use super::{Width, text_width};

/// One cell.
#[derive(Clone, Debug)]
pub struct GridCell {
    /// From the left.
    pub column: usize,
    /// From the bottom.
    pub row: usize,
    /// Its place in the palette.
    pub color: usize,
    /// In it, a line each, where there is room.
    pub lines: Vec<String>,
    /// What is said when it is pointed at.
    pub tip: String,
    /// Computed by a model, not measured.
    pub modelled: bool,
}

/// A map.
#[derive(Clone, Debug)]
pub struct Grid {
    /// What a person who can't see it is told.
    pub said: String,
    /// What the columns are.
    pub x: String,
    /// What the rows are.
    pub y: String,
    /// From left to right.
    pub columns: Vec<String>,
    /// From bottom to top.
    pub rows: Vec<String>,
    /// The cells; a pair without one stays empty.
    pub cells: Vec<GridCell>,
}

impl Grid {
    /// The drawing.
    pub fn draw(&self, width: Width) -> String {
        const CELL: f64 = 46.0;
        let left = self.rows.iter().map(|row| text_width(row)).fold(24.0, f64::max) + 10.0;
        let (top, bottom) = (24.0, 44.0);
        let height = top + bottom + CELL * self.rows.len().max(1) as f64;
        let wide = (width.px() - left - 8.0) / self.columns.len().max(1) as f64;
        let base = height - bottom;
        let plot = [left, top, width.px() - left - 8.0, base - top];
        let mut svg = Svg::new((width.px(), height), &self.said, plot);
        svg.text("axis", (2.0, 13.0), Anchor::Start, &self.y);
        svg.text("axis", (left + plot[2] / 2.0, height - 6.0), Anchor::Middle, &self.x);
        for (n, name) in self.rows.iter().enumerate() {
            svg.text("tick", (left - 6.0, base - CELL * (n as f64 + 0.5) + 4.0), Anchor::End, name);
        }
        for (n, name) in self.columns.iter().enumerate() {
            svg.text("tick", (left + wide * (n as f64 + 0.5), base + 16.0), Anchor::Middle, name);
        }
        for cell in &self.cells {
            let (x, y) = (left + wide * cell.column as f64, base - CELL * (cell.row + 1) as f64);
            let class = format!("cell c{}{}", cell.color, if cell.modelled { " modelled" } else { "" });
            svg.rect(&class, [x + 1.0, y + 1.0, wide - 2.0, CELL - 2.0], Some(&cell.tip));
            svg.sign(&format!("sign c{}", cell.color), cell.color, (x + 10.0, y + 11.0), 8.0);
            for (n, line) in cell.lines.iter().enumerate().filter(|(_, line)| text_width(line) + 6.0 < wide) {
                svg.text("name", (x + wide / 2.0, y + 22.0 + 14.0 * n as f64), Anchor::Middle, line);
            }
        }
        svg.finish()
    }
}
