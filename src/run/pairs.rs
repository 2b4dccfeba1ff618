//! Pairs of runs in fresh processes, in an order drawn by lot.

use crate::decide::alike::schemas_differ;
use crate::decide::{StoredError, read_result};
use crate::report::RunResult;
use crate::stats::SplitMix64;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// One of the runs of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// What stands.
    A,
    /// What is in question.
    B,
    /// What stands, a second time: the control.
    AgainA,
}

impl Arm {
    /// Its name in folders and messages.
    pub fn name(self) -> &'static str {
        match self {
            Arm::A => "a",
            Arm::B => "b",
            Arm::AgainA => "a-again",
        }
    }
}

/// How an arm is run.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The program.
    pub binary: PathBuf,
    /// The arguments of `freshbench run`.
    pub arguments: Vec<String>,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct PairsPlan {
    /// A.
    pub a: Recipe,
    /// B.
    pub b: Recipe,
    /// Rounds that count; one more is run before them and thrown away.
    pub pairs: u32,
    /// Whether each round runs A a second time.
    pub control: bool,
    /// The seed of the order.
    pub seed: u64,
    /// Where each run leaves its result, below `runs/`.
    pub folder: PathBuf,
}

/// What came out, round by round.
#[derive(Debug, Default)]
pub struct PairsRun {
    /// A and B of each round.
    pub pairs: Vec<(RunResult, RunResult)>,
    /// A and the second A of each round; empty without a control.
    pub control: Vec<(RunResult, RunResult)>,
}

/// Why a run of an arm ended the comparison.
#[derive(Debug)]
pub enum PairsError {
    /// It could not be started.
    Start {
        /// The program.
        binary: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// It failed.
    Failed {
        /// The arm, as its flag names it.
        arm: Arm,
        /// Its exit code, if it was not killed.
        code: Option<i32>,
        /// The last line it wrote to stderr.
        said: String,
    },
    /// Its result is of no use.
    Result(StoredError),
    /// The results of A and B do not compare, and why.
    Unlike(String),
    /// Ctrl-C.
    Interrupted,
}

impl fmt::Display for PairsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PairsError::Start { binary, cause } => {
                write!(f, "{}: can't be started: {cause}; name a freshbench binary", binary.display())
            }
            PairsError::Failed { arm, code, said } => {
                let how = code.map_or("was killed".to_owned(), |code| format!("ended with exit code {code}"));
                write!(f, "the run of {} {how}: {said}", arm.name())
            }
            PairsError::Result(cause) => write!(f, "{cause}"),
            PairsError::Unlike(why) => f.write_str(why),
            PairsError::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for PairsError {}

/// The arms of one round in an order drawn by lot: each order is as likely as any other.
pub fn order(random: &mut SplitMix64, control: bool) -> Vec<Arm> {
    let mut arms = vec![Arm::A, Arm::B];
    if control {
        arms.push(Arm::AgainA);
    }
    for place in (1..arms.len()).rev() {
        arms.swap(place, random.below(place as u64 + 1) as usize);
    }
    arms
}

/// Runs all rounds. `tell` hears of each run before it begins: the round (0 is the warm-up) and the arm.
///
/// # Errors
/// [`PairsError`] at the first run that fails; results of earlier runs stay in the folder.
pub fn run_pairs(plan: &PairsPlan, stop: &AtomicBool, tell: &dyn Fn(u32, Arm)) -> Result<PairsRun, PairsError> {
    let mut random = SplitMix64::new(plan.seed);
    let mut run = PairsRun::default();
    for round in 0..=plan.pairs {
        let mut results: [Option<RunResult>; 3] = [None, None, None];
        for arm in order(&mut random, plan.control) {
            tell(round, arm);
            let recipe = if arm == Arm::B { &plan.b } else { &plan.a };
            let out = plan.folder.join("runs").join(format!("{round:03}-{}", arm.name()));
            let result = run_once(recipe, arm, &out);
            if stop.load(Ordering::Relaxed) {
                return Err(PairsError::Interrupted);
            }
            let [a, b, again] = &mut results;
            *match arm {
                Arm::A => a,
                Arm::B => b,
                Arm::AgainA => again,
            } = Some(result?);
        }
        if let (Some(a), Some(b)) = (&results[0], &results[1])
            && let Some(why) = schemas_differ(a, b)
        {
            return Err(PairsError::Unlike(format!("the binaries of A and B: {why}")));
        }
        // The first round warms disk and caches up, and meets a processor at another clock rate.
        if round == 0 {
            continue;
        }
        let [Some(a), Some(b), again] = results else { continue };
        if let Some(again) = again {
            run.control.push((a.clone(), again));
        }
        run.pairs.push((a, b));
    }
    Ok(run)
}

fn run_once(recipe: &Recipe, arm: Arm, out: &Path) -> Result<RunResult, PairsError> {
    let output = Command::new(&recipe.binary)
        .arg("run")
        .args(&recipe.arguments)
        .args(["--quiet", "--format", "json", "--out"])
        .arg(out)
        .stdin(Stdio::null())
        // The result is read from its file; on stdout it is in nobody's way.
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|cause| PairsError::Start { binary: recipe.binary.clone(), cause })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        let said = said.trim_start_matches("freshbench: ").to_owned();
        let said = if output.status.code() == Some(5) { failed_validation(out).unwrap_or(said) } else { said };
        return Err(PairsError::Failed { arm, code: output.status.code(), said });
    }
    read_result(out).map_err(PairsError::Result)
}

/// What did not pass, in words.
fn failed_validation(out: &Path) -> Option<String> {
    let result = read_result(out).ok()?;
    let case = result.strategies.iter().find(|case| !case.validation.passed)?;
    Some(format!("{}: {}", case.name, case.validation.failures.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_comes_as_often() {
        let seed = 1;
        let mut random = SplitMix64::new(seed);
        let mut first = 0;
        for _ in 0..1000 {
            first += usize::from(order(&mut random, false) == [Arm::A, Arm::B]);
        }
        // Four deviations of a fair coin are 63.
        assert!((437..=563).contains(&first), "seed {seed}: {first}");
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let round = order(&mut random, true);
            assert_eq!(round.len(), 3);
            seen.insert(round.iter().map(|arm| arm.name()).collect::<Vec<_>>());
        }
        assert_eq!(seen.len(), 6);
    }
}
