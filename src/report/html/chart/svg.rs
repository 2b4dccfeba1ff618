//! The few SVG elements that the charts are made of. Every text that goes in is escaped here.

use std::fmt::Write;

/// Text as it may stand in HTML and SVG, in an element and in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters are not allowed in XML, and invisible in HTML.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// To the right of it.
    Start,
    /// Around it.
    Middle,
    /// To the left of it.
    End,
}

/// A drawing under way. Coordinates are CSS pixels at the size for which it is drawn.
#[derive(Debug)]
pub struct Svg {
    out: String,
}

impl Svg {
    /// A drawing of a size, with what a person who can't see it is told. `plot` is the rectangle (left, top, width, height)
    /// that values are laid in.
    pub fn new((width, height): (f64, f64), said: &str, plot: [f64; 4]) -> Svg {
        let mut out = String::with_capacity(8 << 10);
        let [left, top, w, h] = plot;
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" aria-label=\"{}\" \
             data-plot=\"{left:.0} {top:.0} {w:.0} {h:.0}\">",
            escape(said)
        );
        Svg { out }
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
        let _ =
            write!(self.out, "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>");
    }

    /// A text with its baseline at `y`.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let _ = write!(self.out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\"{anchor}>{}</text>", escape(text));
    }

    /// A line through points.
    pub fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        if points.len() < 2 {
            return;
        }
        let _ = write!(self.out, "<path class=\"{class}\" d=\"");
        for (place, (x, y)) in points.iter().enumerate() {
            let _ = write!(self.out, "{}{x:.1} {y:.1}", if place == 0 { 'M' } else { 'L' });
        }
        self.out.push_str("\"/>");
    }

    /// A rectangle; `tip` is shown when it is pointed at.
    pub fn rect(&mut self, class: &str, [x, y, width, height]: [f64; 4], tip: Option<&str>) {
        let tip = tip.map_or(String::new(), |tip| format!(" data-tip=\"{}\"", escape(tip)));
        let _ = write!(
            self.out,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"{tip}/>",
            width.max(0.0),
            height.max(0.0)
        );
    }

    /// The sign of a series: its shape tells it from others where colours can't.
    pub fn sign(&mut self, class: &str, shape: usize, (x, y): (f64, f64), size: f64) {
        let r = size / 2.0;
        let d = match shape % 5 {
            0 => format!("M{:.1} {y:.1}a{r:.1} {r:.1} 0 1 0 {size:.1} 0a{r:.1} {r:.1} 0 1 0 -{size:.1} 0z", x - r),
            1 => format!("M{:.1} {:.1}h{size:.1}v{size:.1}h-{size:.1}z", x - r, y - r),
            2 => format!("M{x:.1} {:.1}l{r:.1} {size:.1}h-{size:.1}z", y - r),
            3 => format!(
                "M{x:.1} {:.1}l{:.1} {:.1}l-{:.1} {:.1}l-{:.1} -{:.1}z",
                y - r * 1.3,
                r * 1.3,
                r * 1.3,
                r * 1.3,
                r * 1.3,
                r * 1.3,
                r * 1.3
            ),
            _ => format!("M{:.1} {:.1}h{size:.1}l-{r:.1} {size:.1}z", x - r, y - r),
        };
        let _ = write!(self.out, "<path class=\"{class}\" d=\"{d}\"/>");
    }

    /// The whole drawing.
    pub fn finish(mut self) -> String {
        self.out.push_str("</svg>");
        self.out
    }
}

/// JSON as it may stand in a `script` element.
pub fn json_in_script(value: &serde_json::Value) -> String {
    // `<` would let a text end the element; the two separators end a line in old scripts.
    value.to_string().replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_gets_out_of_its_place() {
        assert_eq!(escape("<b a=\"1\" c='2'>&\u{1}"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;\u{fffd}");
        let json = json_in_script(&serde_json::json!("</script><script>alert(1)"));
        assert!(!json.contains('<'));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), "</script><script>alert(1)");
        let mut svg = Svg::new((10.0, 10.0), "\"><script>", [0.0; 4]);
        svg.text("t", (0.0, 0.0), Anchor::Start, "</text><script>");
        assert!(!svg.finish().contains("<script>"));
    }
}
