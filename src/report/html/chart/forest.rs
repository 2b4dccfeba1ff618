//! A forest plot: an estimate and its interval a row, around no change.

use super::svg::{Anchor, Svg};
use super::{Scale, Width, text_width};

/// One row.
#[derive(Clone, Debug)]
pub struct Lean {
    /// What was estimated.
    pub name: String,
    /// The logarithm of the ratio.
    pub estimate: f64,
    /// Its interval.
    pub range: Option<[f64; 2]>,
    /// The logarithm up to which it counts as no change.
    pub margin: Option<f64>,
    /// At its right.
    pub said: String,
    /// `good`, `failed`, `differs` or `plain`.
    pub class: &'static str,
    /// What is said when it is pointed at.
    pub tip: String,
}

/// A forest plot.
#[derive(Clone, Debug)]
pub struct Forest {
    /// What a person who can't see it is told.
    pub said: String,
    /// From top to bottom.
    pub leans: Vec<Lean>,
    /// How a logarithm is written.
    pub tick: fn(f64) -> String,
}

impl Forest {
    /// The drawing.
    pub fn draw(&self, width: Width) -> String {
        const STEP: f64 = 42.0;
        let (left, right) = (8.0, width.px() - 8.0);
        let height = STEP * self.leans.len() as f64 + 34.0;
        let ends = self.leans.iter().flat_map(|lean| {
            [Some(lean.estimate), lean.range.map(|r| r[0]), lean.range.map(|r| r[1]), lean.margin].into_iter().flatten()
        });
        let most = ends.filter(|end| end.is_finite()).map(f64::abs).fold(0.02, f64::max) * 1.1;
        let scale = Scale::Linear { low: -most, high: most };
        let x = |ln: f64| left + scale.place(ln) * (right - left);
        let bottom = height - 28.0;
        let mut svg = Svg::new((width.px(), height), &self.said, [left, 0.0, right - left, bottom]);
        self.ticks(&mut svg, most, &x, bottom);
        for (n, lean) in self.leans.iter().enumerate() {
            let top = STEP * n as f64;
            let y = top + 27.0;
            if let Some(margin) = lean.margin {
                for edge in [-margin, margin] {
                    svg.line("margin", [x(edge), y - 9.0, x(edge), y + 9.0]);
                }
            }
            if let Some([low, high]) = lean.range {
                svg.line(&format!("whisker {}", lean.class), [x(low), y, x(high), y]);
            }
            svg.sign(&format!("sign {}", lean.class), 1, (x(lean.estimate), y), 10.0);
            svg.text("name", (0.0, top + 13.0), Anchor::Start, &lean.name);
            // Where both would not fit in one line, the name alone stays; pointing at the row tells the rest.
            if text_width(&lean.name) + text_width(&lean.said) + 12.0 < width.px() {
                svg.text("name", (width.px(), top + 13.0), Anchor::End, &lean.said);
            }
            svg.rect("catch", [0.0, top, width.px(), STEP], Some(&lean.tip));
        }
        svg.finish()
    }

    fn ticks(&self, svg: &mut Svg, most: f64, x: &dyn Fn(f64) -> f64, bottom: f64) {
        svg.line("base", [x(0.0), 0.0, x(0.0), bottom]);
        let share = (most.exp() - 1.0) / 1.5;
        let unit = 10f64.powf(share.log10().floor());
        let step = [5.0, 2.0, 1.0].map(|n| n * unit).into_iter().find(|step| *step <= share).unwrap_or(unit);
        for ln in [(1.0 / (1.0 + step)).ln(), 0.0, (1.0 + step).ln()] {
            svg.line("grid", [x(ln), 0.0, x(ln), bottom]);
            svg.text("tick", (x(ln), bottom + 16.0), Anchor::Middle, &(self.tick)(ln));
        }
    }
}
