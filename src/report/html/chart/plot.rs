//! Lines and points between two axes.

use super::svg::{Anchor, Svg};
use super::{Scale, Width, text_width};
use serde_json::{Value, json};

/// One axis of a plot.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows, with the unit where the ticks don't have it.
    pub label: String,
    /// How values are laid along it.
    pub scale: Scale,
    /// How a tick is written.
    pub tick: fn(f64) -> String,
    /// How a value is said.
    pub say: fn(f64) -> String,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line from point to point.
    Line,
    /// Points, with their intervals.
    Points,
    /// Both.
    LineAndPoints,
}

/// One point of a series.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// Along the horizontal axis.
    pub x: f64,
    /// Along the vertical one.
    pub y: f64,
    /// An interval of `y`.
    pub y_range: Option<[f64; 2]>,
    /// What is said when it is pointed at; else `y` in words.
    pub tip: Option<String>,
    /// A text beside it.
    pub label: Option<String>,
}

impl Point {
    /// A bare point.
    pub fn at(x: f64, y: f64) -> Point {
        Point { x, y, ..Point::default() }
    }
}

/// What is drawn in one colour.
#[derive(Clone, Debug)]
pub struct Series {
    /// As the legend calls it.
    pub name: String,
    /// Its place in the palette.
    pub color: usize,
    /// Its points, in the order of `x` for lines.
    pub points: Vec<Point>,
    /// How they are drawn.
    pub style: Style,
    /// Drawn dotted and pale: known only to be at least so.
    pub faint: bool,
}

/// An instant or a bound that is marked across the plot.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Where, along the horizontal axis.
    pub x: f64,
    /// The palette's place of what it belongs to.
    pub color: usize,
    /// A text at its top; none for one of many.
    pub label: Option<String>,
    /// Drawn from top to bottom; else a short stroke at the bottom.
    pub tall: bool,
}

/// How values are found under a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointing {
    /// All series at the instant that is nearest.
    Column,
    /// The one point that is nearest.
    Nearest,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What a person who can't see it is told.
    pub said: String,
    /// Horizontal.
    pub x: Axis,
    /// Vertical.
    pub y: Axis,
    /// In the order in which they are drawn.
    pub series: Vec<Series>,
    /// What is marked.
    pub marks: Vec<Mark>,
    /// How values are found.
    pub pointing: Pointing,
    /// Its height in pixels.
    pub height: f64,
}

/// The rectangle of a plot's values.
#[derive(Clone, Copy)]
struct Frame {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Frame {
    fn x(&self, axis: &Axis, value: f64) -> f64 {
        self.left + axis.scale.place(value) * self.width
    }

    fn y(&self, axis: &Axis, value: f64) -> f64 {
        self.top + (1.0 - axis.scale.place(value)) * self.height
    }
}

impl Plot {
    /// The drawing.
    pub fn draw(&self, width: Width) -> String {
        let wide = width == Width::Wide;
        let y_ticks: Vec<(f64, String)> = self
            .y
            .scale
            .ticks(if self.height < 150.0 { 3 } else { 6 })
            .into_iter()
            .map(|v| (v, (self.y.tick)(v)))
            .collect();
        let left = y_ticks.iter().map(|(_, text)| text_width(text)).fold(24.0, f64::max) + 10.0;
        let labelled = wide && self.series.iter().any(|s| s.style != Style::Points && !s.name.is_empty());
        let right = if labelled { self.label_room() } else { 14.0 };
        let frame = Frame { left, top: 24.0, width: width.px() - left - right, height: self.height - 24.0 - 42.0 };
        let plot = [frame.left, frame.top, frame.width, frame.height];
        let mut svg = Svg::new((width.px(), self.height), &self.said, plot);
        self.axes(&mut svg, &frame, &y_ticks, width);
        self.draw_marks(&mut svg, &frame);
        for series in &self.series {
            self.draw_series(&mut svg, &frame, series);
        }
        if labelled {
            self.end_labels(&mut svg, &frame);
        }
        self.point_labels(&mut svg, &frame, width.px());
        svg.finish()
    }

    fn label_room(&self) -> f64 {
        let longest = self.series.iter().filter(|series| !series.faint).map(|series| text_width(&series.name));
        longest.fold(0.0, f64::max) + 30.0
    }

    fn axes(&self, svg: &mut Svg, frame: &Frame, y_ticks: &[(f64, String)], width: Width) {
        let (bottom, right) = (frame.top + frame.height, frame.left + frame.width);
        svg.text("axis", (2.0, 13.0), Anchor::Start, &self.y.label);
        for (value, text) in y_ticks {
            let y = frame.y(&self.y, *value);
            svg.line("grid", [frame.left, y, right, y]);
            svg.text("tick", (frame.left - 6.0, y + 4.0), Anchor::End, text);
        }
        let wanted = if width == Width::Wide { 8 } else { 4 };
        let mut free_from = f64::NEG_INFINITY;
        for value in self.x.scale.ticks(wanted) {
            let (x, text) = (frame.x(&self.x, value), (self.x.tick)(value));
            svg.line("grid", [x, frame.top, x, bottom]);
            let half = text_width(&text) / 2.0;
            // A label that would touch the one before it, or stand out of the drawing, is left out or moved in.
            let middle = x.min(width.px() - half - 1.0);
            if middle - half > free_from {
                svg.text("tick", (middle, bottom + 16.0), Anchor::Middle, &text);
                free_from = middle + half + 6.0;
            }
        }
        svg.line("base", [frame.left, bottom, right, bottom]);
        svg.text("axis", (frame.left + frame.width / 2.0, self.height - 6.0), Anchor::Middle, &self.x.label);
    }

    fn draw_marks(&self, svg: &mut Svg, frame: &Frame) {
        let bottom = frame.top + frame.height;
        for mark in &self.marks {
            let x = frame.x(&self.x, mark.x);
            let top = if mark.tall { frame.top } else { bottom - 7.0 };
            svg.line(&format!("mark c{}", mark.color), [x, top, x, bottom]);
            if let Some(label) = &mark.label {
                let fits = x + 4.0 + text_width(label) < frame.left + frame.width;
                let (at, anchor) = if fits { (x + 4.0, Anchor::Start) } else { (x - 4.0, Anchor::End) };
                svg.text("note", (at, frame.top + 11.0), anchor, label);
            }
        }
    }

    fn draw_series(&self, svg: &mut Svg, frame: &Frame, series: &Series) {
        let drawn: Vec<&Point> = series.points.iter().filter(|p| p.x.is_finite() && p.y.is_finite()).collect();
        let places: Vec<(f64, f64)> = drawn.iter().map(|p| (frame.x(&self.x, p.x), frame.y(&self.y, p.y))).collect();
        let faint = if series.faint { " faint" } else { "" };
        if series.style != Style::Points {
            svg.path(&format!("line c{}{faint}", series.color), &places);
        }
        if series.style != Style::Line {
            for (point, (x, y)) in drawn.iter().zip(&places) {
                if let Some([low, high]) = point.y_range {
                    let (low, high) = (frame.y(&self.y, low), frame.y(&self.y, high));
                    svg.line(&format!("whisker c{}", series.color), [*x, low, *x, high]);
                }
                svg.sign(&format!("sign c{}{faint}", series.color), series.color, (*x, *y), 9.0);
            }
        }
    }

    /// Names at the ends of the lines, moved apart where lines end together.
    fn end_labels(&self, svg: &mut Svg, frame: &Frame) {
        const APART: f64 = 15.0;
        let named = self.series.iter().filter(|s| s.style != Style::Points && !s.faint && !s.name.is_empty());
        let mut ends: Vec<(f64, f64, f64, &Series)> = named
            .filter_map(|series| {
                // What is only known to be at least so long continues the line of its colour.
                let same = self.series.iter().rev().filter(|other| other.color == series.color);
                let last =
                    same.flat_map(|other| other.points.iter().rev()).find(|p| p.x.is_finite() && p.y.is_finite())?;
                let y = frame.y(&self.y, last.y);
                Some((y, y, frame.x(&self.x, last.x), series))
            })
            .collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let lowest = frame.top + frame.height;
        let mut from = f64::NEG_INFINITY;
        for end in &mut ends {
            end.0 = end.0.max(from).max(frame.top + 4.0);
            from = end.0 + APART;
        }
        let mut until = lowest;
        for end in ends.iter_mut().rev() {
            end.0 = end.0.min(until);
            until = end.0 - APART;
        }
        let x = frame.left + frame.width;
        for (y, end, from, series) in ends {
            svg.path(&format!("leader c{}", series.color), &[(from, end), (x + 6.0, end), (x + 14.0, y)]);
            svg.sign(&format!("sign c{}", series.color), series.color, (x + 18.0, y), 7.0);
            svg.text("name", (x + 25.0, y + 4.0), Anchor::Start, &series.name);
        }
    }

    /// Texts beside points, each on the side and at the height where it touches no other.
    fn point_labels(&self, svg: &mut Svg, frame: &Frame, width: f64) {
        let all = || self.series.iter().flat_map(|series| series.points.iter());
        let place = |point: &Point| (frame.x(&self.x, point.x), frame.y(&self.y, point.y));
        let mut taken: Vec<[f64; 4]> = all().map(place).map(|(x, y)| [x - 6.0, y - 6.0, x + 6.0, y + 6.0]).collect();
        for point in all() {
            let Some(label) = &point.label else { continue };
            let ((x, y), long) = (place(point), text_width(label));
            let tries =
                [(9.0, 4.0), (-9.0 - long, 4.0), (9.0, 18.0), (9.0, -10.0), (-9.0 - long, 18.0), (-9.0 - long, -10.0)];
            let tries = tries.into_iter().chain([
                (-long / 2.0, -12.0),
                (-long / 2.0, 21.0),
                (-long / 2.0, 35.0),
                (-long / 2.0, -26.0),
            ]);
            let boxed = |(dx, dy): (f64, f64)| [x + dx, y + dy - 11.0, x + dx + long, y + dy + 3.0];
            let free = |b: &[f64; 4]| {
                b[0] >= frame.left + 2.0
                    && b[2] <= width - 2.0
                    && b[1] >= frame.top - 6.0
                    && b[3] <= frame.top + frame.height
                    && !taken.iter().any(|t| b[0] < t[2] && t[0] < b[2] && b[1] < t[3] && t[1] < b[3])
            };
            // Where it fits nowhere, pointing at the point still tells it.
            if let Some(found) = tries.map(boxed).find(free) {
                svg.text("name", (found[0], found[3] - 3.0), Anchor::Start, label);
                taken.push(found);
            }
        }
    }

    /// What a pointer finds: places from 0 to 1 (top to bottom), and what is said there.
    pub fn pointed(&self) -> Value {
        let round = |value: f64| (value * 1e4).round() / 1e4;
        let series = self.series.iter().map(|series| {
            let shown = || series.points.iter().filter(|p| p.x.is_finite() && p.y.is_finite());
            json!({
                "n": series.name,
                "c": series.color,
                "x": shown().map(|p| round(self.x.scale.place(p.x))).collect::<Vec<_>>(),
                "y": shown().map(|p| round(1.0 - self.y.scale.place(p.y))).collect::<Vec<_>>(),
                "h": shown().map(|p| (self.x.say)(p.x)).collect::<Vec<_>>(),
                "v": shown().map(|p| p.tip.clone().unwrap_or_else(|| (self.y.say)(p.y))).collect::<Vec<_>>(),
            })
        });
        let mode = if self.pointing == Pointing::Column { "column" } else { "nearest" };
        json!({ "mode": mode, "x": self.x.label, "series": series.collect::<Vec<_>>() })
    }
}

/// A row of small lines on one axis, without ticks: what a run looked like, at a glance.
pub fn sparkline(lines: &[(usize, Vec<f64>)], said: &str) -> String {
    const SIZE: (f64, f64) = (180.0, 36.0);
    let most =
        lines.iter().flat_map(|(_, values)| values.iter().copied()).filter(|v| v.is_finite()).fold(0.0, f64::max);
    let mut svg = Svg::new(SIZE, said, [0.0, 0.0, SIZE.0, SIZE.1]);
    svg.line("base", [0.0, SIZE.1 - 1.0, SIZE.0, SIZE.1 - 1.0]);
    for (color, values) in lines {
        let steps = values.len().saturating_sub(1).max(1) as f64;
        let places: Vec<(f64, f64)> = values
            .iter()
            .enumerate()
            .filter(|(_, value)| value.is_finite())
            .map(|(n, value)| {
                let up = if most > 0.0 { value / most } else { 0.0 };
                (n as f64 / steps * SIZE.0, 2.0 + (1.0 - up) * (SIZE.1 - 4.0))
            })
            .collect();
        svg.path(&format!("line c{color}"), &places);
    }
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<Point>) -> Plot {
        let axis = |high| Axis {
            label: "t".to_owned(),
            scale: Scale::Linear { low: 0.0, high },
            tick: |v| format!("{v}"),
            say: |v| format!("{v} s"),
        };
        let series = Series { name: "<b>".to_owned(), color: 3, points, style: Style::LineAndPoints, faint: false };
        Plot {
            said: "s".to_owned(),
            x: axis(10.0),
            y: axis(4.0),
            series: vec![series],
            marks: Vec::new(),
            pointing: Pointing::Column,
            height: 200.0,
        }
    }

    #[test]
    fn what_is_pointed_at_is_where_it_is_drawn() {
        let pointed = plot(vec![Point::at(0.0, 4.0), Point::at(5.0, 1.0), Point::at(10.0, f64::NAN)]).pointed();
        assert_eq!(pointed["series"][0]["x"], json!([0.0, 0.5]));
        assert_eq!(pointed["series"][0]["y"], json!([0.0, 0.75]));
        assert_eq!(pointed["series"][0]["v"], json!(["4 s", "1 s"]));
    }

    #[test]
    fn a_drawing_has_its_line_inside_its_frame() {
        let svg = plot(vec![Point::at(0.0, 0.0), Point::at(10.0, 4.0)]).draw(Width::Wide);
        assert!(svg.contains("data-plot=\"34 24 "), "{svg}");
        assert!(svg.contains("d=\"M34.0 158.0L"), "{svg}");
        assert!(!svg.contains("<b>"));
        // Nothing but finite numbers comes into a drawing.
        assert!(!plot(vec![Point::at(f64::NAN, f64::INFINITY)]).draw(Width::Narrow).contains("NaN"));
    }
}
