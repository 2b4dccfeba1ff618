//! Lying bars: parts of a whole, or an estimate with its interval.

use super::svg::{Anchor, Svg};
use super::{Scale, Width, text_width};

/// A part of a bar.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it is.
    pub name: String,
    /// Its length, in the unit of the bar.
    pub value: f64,
    /// What is said when it is pointed at.
    pub tip: String,
}

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// At its left.
    pub name: String,
    /// At its right.
    pub total: String,
    /// From left to right, each bar of them in the same order.
    pub parts: Vec<Part>,
}

/// Bars of one length each, divided as their parts are.
#[derive(Clone, Debug)]
pub struct Bars {
    /// What a person who can't see it is told.
    pub said: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

impl Bars {
    /// The drawing.
    pub fn draw(&self, width: Width) -> String {
        const STEP: f64 = 44.0;
        let right = self.bars.iter().map(|bar| text_width(&bar.total)).fold(30.0, f64::max) + 10.0;
        let height = 6.0 + STEP * self.bars.len() as f64;
        let long = width.px() - right;
        let mut svg = Svg::new((width.px(), height), &self.said, [0.0, 0.0, long, height]);
        for (place, bar) in self.bars.iter().enumerate() {
            let top = 4.0 + STEP * place as f64;
            svg.text("name", (0.0, top + 11.0), Anchor::Start, &bar.name);
            let sum: f64 = bar.parts.iter().map(|part| part.value.max(0.0)).sum();
            let scale = Scale::Linear { low: 0.0, high: if sum > 0.0 { sum } else { 1.0 } };
            let mut from = 0.0;
            for (n, part) in bar.parts.iter().enumerate() {
                let wide = scale.place(part.value.max(0.0)) * long;
                svg.rect(&format!("part p{n}"), [from, top + 17.0, wide, 20.0], Some(&part.tip));
                if text_width(&part.name) + 8.0 < wide {
                    svg.text(&format!("inside i{n}"), (from + wide / 2.0, top + 31.5), Anchor::Middle, &part.name);
                }
                from += wide;
            }
            svg.text("name", (long + 8.0, top + 31.5), Anchor::Start, &bar.total);
        }
        svg.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_divide_the_bar_as_their_values_do() {
        let part = |value: f64| Part { name: "p".to_owned(), value, tip: "t".to_owned() };
        let bar = Bar { name: "b".to_owned(), total: "4 s".to_owned(), parts: vec![part(1.0), part(3.0)] };
        let svg = Bars { said: "s".to_owned(), bars: vec![bar] }.draw(Width::Wide);
        // 760 less the 40 that the total takes: a quarter is 180.
        assert!(svg.contains("x=\"0.0\" y=\"21.0\" width=\"180.0\""), "{svg}");
        assert!(svg.contains("x=\"180.0\" y=\"21.0\" width=\"540.0\""), "{svg}");
    }
}
