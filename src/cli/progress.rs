//! Progress bars on a terminal, nothing elsewhere.

use crate::foreign::terminal;
use crate::live::Feed;
use crate::output::say;
use crate::run::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

/// One bar at a time on stderr.
pub(super) struct Bars {
    shown: bool,
    bar: Mutex<Option<ProgressBar>>,
    feed: Option<Feed>,
}

impl Bars {
    pub(super) fn new(quiet: bool, feed: Option<Feed>) -> Bars {
        Bars { shown: !quiet && std::io::stderr().is_terminal(), bar: Mutex::new(None), feed }
    }

    /// Says something beside the bar.
    pub(super) fn say(&self, line: &str) {
        self.with(|current| match current {
            Some(bar) => bar.suspend(|| say!("freshbench: {line}")),
            None => say!("freshbench: {line}"),
        });
    }

    fn with(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        act(&mut self.bar.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Progress for Bars {
    fn live(&self) -> Option<&Feed> {
        self.feed.as_ref()
    }

    fn begin(&self, what: &str, total: u64) {
        if let Some(feed) = &self.feed {
            feed.begin(what);
        }
        if !self.shown {
            return;
        }
        let bar = if total == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(total) };
        let template =
            if total == 0 { "{spinner} {msg} {elapsed}" } else { "{msg:28} {wide_bar} {percent:>3} % {elapsed}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        bar.set_message(terminal(what).into_owned());
        bar.tick();
        self.with(|current| *current = Some(bar));
    }

    fn at(&self, done: u64) {
        self.with(|current| {
            if let Some(bar) = current {
                bar.set_position(done);
            }
        });
    }

    fn end(&self) {
        self.with(|current| {
            if let Some(bar) = current.take() {
                bar.finish_and_clear();
            }
        });
    }
}
