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
        let most = self.most();
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
                let (low, high) = (low.max(-most), high.min(most));
                svg.line(&format!("whisker {}", lean.class), [x(low), y, x(high), y]);
                // What goes on beyond the drawing ends in an arrow.
                for (beyond, end, back) in [(low <= -most, x(-most), 7.0), (high >= most, x(most), -7.0)] {
                    if beyond {
                        let arrow = [(end + back, y - 5.0), (end, y), (end + back, y + 5.0)];
                        svg.path(&format!("whisker open {}", lean.class), &arrow);
                    }
                }
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

    /// How far the drawing reaches to either side. An interval that is far wider than all that was estimated, such as one of a
    /// figure that hardly varies, must not squeeze the others into a point.
    fn most(&self) -> f64 {
        let largest = |values: &mut dyn Iterator<Item = f64>| {
            values.map(f64::abs).filter(|value| value.is_finite()).fold(0.02, f64::max)
        };
        let estimates = largest(&mut self.leans.iter().flat_map(|lean| [lean.estimate, lean.margin.unwrap_or(0.0)]));
        let ends = self.leans.iter().filter_map(|lean| lean.range).flatten().map(f64::abs);
        let within = ends.filter(|end| *end <= estimates * 5.0).fold(estimates, f64::max);
        within * 1.1
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_interval_squeezes_nothing() {
        let lean = |estimate, range| Lean {
            name: "m".to_owned(),
            estimate,
            range: Some(range),
            margin: Some(0.05),
            said: String::new(),
            class: "good",
            tip: String::new(),
        };
        let forest = |leans| Forest { said: String::new(), leans, tick: |ln| format!("{ln:.2}") };
        let wild = forest(vec![lean(0.1, [0.05, 0.2]), lean(0.0, [-1e300, f64::INFINITY])]);
        assert!((wild.most() - 0.22).abs() < 1e-9);
        assert_eq!(wild.draw(Width::Wide).matches("whisker open").count(), 2);
        assert_eq!(forest(vec![lean(0.1, [0.05, 0.2])]).draw(Width::Narrow).matches("whisker open").count(), 0);
    }
}
