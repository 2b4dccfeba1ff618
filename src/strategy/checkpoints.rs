//! When the consumer of a log makes its sink durable, and what of the log the sink then needs no more.

use super::{Setting, StrategyError};
use crate::log::Offset;
use crate::model::Moment;
use crate::sink::Sink;

/// One sink's checkpoints. At most one is under way.
#[derive(Debug)]
pub(super) struct Checkpoints {
    due: Moment,
    /// Where the log's reader was when the one under way began: all before that is in it.
    begun: Option<Offset>,
}

impl Checkpoints {
    pub(super) fn new(setting: &Setting) -> Checkpoints {
        Checkpoints { due: setting.clock.now().after(setting.checkpoint_interval), begun: None }
    }

    /// Begins a checkpoint if one is due, and asks for the one under way, or waits for it when the sink can't hold more. When
    /// it has ended: the first record that the sink still needs after a crash. `next` is the first record that was not applied and published yet.
    pub(super) fn advance<S: Sink>(
        &mut self,
        setting: &Setting,
        sink: &mut S,
        next: Offset,
    ) -> Result<Option<Offset>, StrategyError> {
        let ended = sink.poll_checkpoint()?;
        let needed = if ended.is_some() { self.begun.take() } else { None };
        let now = setting.clock.now();
        if self.begun.is_some() && sink.checkpoint_is_overdue() {
            // Else each checkpoint would leave more for the next than it had itself.
            setting.pool.install(|| sink.checkpoint())?;
            self.begun = None;
            self.due = now.after(setting.checkpoint_interval);
            return Ok(Some(next));
        }
        if self.begun.is_none() && (now >= self.due || sink.checkpoint_is_due()) {
            setting.pool.install(|| sink.begin_checkpoint())?;
            self.begun = Some(next);
            self.due = now.after(setting.checkpoint_interval);
        }
        Ok(needed)
    }
}
