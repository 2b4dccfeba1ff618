//! What becomes of slot and publication when following fails: they stay where somebody can go on with them, and go where
//! nobody can.

use crate::run::RunError;
use crate::strategy::{CanGoOn, Setting, StrategyError, StrategyKind, can_go_on, detach};

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A strategy that leaves nothing to go on with.
    Nothing,
    /// The cause can be mended, and the slot keeps what comes.
    Kept,
    /// The same would happen again, or the server has not kept what is needed.
    Over,
    /// As `Over`; slot and publication of an earlier attach were removed by now.
    Removed,
    /// As `Over`, but slot or publication could not be removed.
    Left,
}

impl Ending {
    /// Of one that failed while it followed.
    pub(super) fn of_following(kind: StrategyKind, setting: &Setting, cause: &StrategyError) -> Ending {
        match (kind, can_go_on(setting)) {
            (StrategyKind::CdcLog, CanGoOn::Yes | CanGoOn::Unknown) if !cause.comes_again() => Ending::Kept,
            (StrategyKind::CdcLog, _) => Ending::Over,
            _ => Ending::Nothing,
        }
    }

    /// Of one that could not go on where an earlier one had ended. What nobody can go on with is removed.
    pub(super) fn of_resuming(setting: &Setting) -> Ending {
        if can_go_on(setting) == CanGoOn::Never && detach(StrategyKind::CdcLog, setting).is_ok() {
            return Ending::Removed;
        }
        Ending::Nothing
    }

    /// The same where the removal failed.
    pub(super) fn left(self) -> Ending {
        if self == Ending::Over { Ending::Left } else { self }
    }

    /// Whether slot and publication stay.
    pub(super) fn keeps(self) -> bool {
        self == Ending::Kept
    }

    /// The one sentence for the user.
    pub(super) fn with(self, kind: StrategyKind, cause: StrategyError) -> RunError {
        let then = match self {
            Ending::Nothing => return RunError::Strategy { strategy: kind.name(), cause: Box::new(cause) },
            Ending::Kept => {
                "slot and publication stay: mend that and go on with --resume, or remove them with freshbench attach --cleanup"
            }
            Ending::Over | Ending::Removed => {
                "slot and publication are removed, since nothing can be gone on with; begin again with a new --warehouse folder"
            }
            Ending::Left => {
                "nothing can be gone on with, but slot or publication could not be removed: run freshbench cleanup --source URL, and \
                 begin again with a new --warehouse folder"
            }
        };
        RunError::Ended { strategy: kind.name(), cause: Box::new(cause), then }
    }
}
