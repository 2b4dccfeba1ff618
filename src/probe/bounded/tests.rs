use super::*;
use crate::probe::{Freshness, FreshnessInput};
use crate::stats::SplitMix64;

fn at(us: u64) -> Moment {
    Moment::ORIGIN.after(Duration::from_micros(us))
}

/// What comes in while something is followed, in the order in which it does.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Commit(Commit),
    Publish(Moment, Lsn),
}

/// Commits some of which have times out of order, published in groups after a while; sometimes a long one.
fn history(seed: u64, commits: u64, rate_per_s: f64) -> Vec<Happens> {
    let mut random = SplitMix64::new(seed);
    let mut happens = Vec::new();
    let (mut now_us, mut stall_until, mut published) = (0.0, 0.0, 0u64);
    for n in 1..=commits {
        now_us += random.unit() * 2e6 / rate_per_s;
        let early = if random.unit() < 0.1 { random.unit() * 900.0 } else { 0.0 };
        let committed = at((now_us - early).max(0.0) as u64);
        happens.push(Happens::Commit(Commit { lsn: Lsn(n * 10), committed, intended: committed }));
        if random.unit() < 1e-4 {
            stall_until = now_us + random.unit() * 8e6;
        }
        if now_us >= stall_until && random.unit() < 0.3 {
            // Not all of it is shown at once.
            let through = published + ((n - published) as f64 * (0.5 + random.unit() / 2.0)) as u64;
            if through > published {
                published = through;
                happens.push(Happens::Publish(at(now_us as u64 + 50), Lsn(through * 10)));
            }
        }
    }
    happens
}

fn near(seen: Duration, wanted: Duration) -> bool {
    seen.abs_diff(wanted) <= wanted / 500 + Duration::from_nanos(1)
}

#[test]
fn the_figures_are_those_of_all_events_together() {
    for (seed, rate) in [(1, 400.0), (2, 5_000.0), (3, 60_000.0)] {
        let happens = history(seed, 200_000, rate);
        let (mut commits, mut publishes) = (Vec::new(), Vec::new());
        let mut bounded = Bounded::new();
        let length = |part: f64| at((200_000.0 / rate * 1e6 * part) as u64);
        let window = Window { start: length(0.1), end: length(0.95) };
        let (mut begun, mut ended, mut kept) = (false, false, 0);
        for event in &happens {
            let now = match event {
                Happens::Commit(commit) => commit.committed,
                Happens::Publish(at, _) => *at,
            };
            if now >= window.start && !begun {
                bounded.begin(window.start);
                begun = true;
            }
            if now >= window.end && !ended {
                bounded.end(window.end);
                ended = true;
            }
            match *event {
                Happens::Commit(commit) => {
                    commits.push(commit);
                    bounded.committed(commit);
                }
                Happens::Publish(at, watermark) => {
                    publishes.push(Publish { at, watermark, delivered: None });
                    bounded.published(at, watermark).unwrap();
                }
            }
            kept = kept.max(bounded.kept());
        }
        let observed_until = length(0.97);
        let visible = visible_by_watermark(&commits, &publishes).unwrap();
        let exact = Freshness::of(&FreshnessInput { commits: &commits, visible: &visible, window, observed_until });
        let seen = bounded.finish(observed_until).unwrap();
        assert_eq!(seen.lag.sketch.len(), exact.lag.samples.len() as u64, "seed {seed}");
        assert_eq!((seen.early, seen.largest_lead, seen.lost), (exact.early, exact.largest_lead, exact.lost), "{seed}");
        assert_eq!(seen.lag.histogram.encode().unwrap(), exact.lag.histogram.encode().unwrap(), "seed {seed}");
        for q in [0.5, 0.9, 0.99, 0.999, 1.0] {
            let (bounded, all) = (seen.lag.sketch.quantile(q).unwrap(), exact.lag.quantile(q).unwrap());
            assert!(near(bounded.value, all.value), "seed {seed}, {q}: {bounded:?} {all:?}");
            assert_eq!(bounded.is_lower_bound(), all.is_lower_bound(), "seed {seed}, {q}");
        }
        // The age is an exact sum.
        assert_eq!(seen.age.mean(), Some(exact.age.mean), "seed {seed}");
        assert_eq!(seen.age.max(), exact.age.max, "seed {seed}");
        for ((theta, share), (_, wanted)) in seen.age.within().into_iter().zip(exact.age.within_slo()) {
            assert!((share - wanted).abs() < 1e-9, "seed {seed}, {theta:?}: {share} {wanted}");
        }
        let distribution = seen.age.distribution();
        assert!(near(distribution.quantile(0.5).unwrap(), exact.age.p50), "seed {seed}");
        assert!(near(distribution.quantile(0.99).unwrap(), exact.age.p99), "seed {seed}");
        let step = seen.age_series.step();
        for (place, age) in seen.age_series.values().iter().enumerate() {
            let moment = window.start.after(step * place as u32);
            assert_eq!(*age, exact.age.curve.at(moment).unwrap().as_secs_f64(), "seed {seed} at {moment}");
        }
        // The first is small enough that what is kept shows: some seconds of it, and what a fold waits for.
        if seed == 1 {
            assert!(kept < 120_000, "{kept} of {} entries were kept at once", happens.len());
        }
    }
}

#[test]
fn a_heartbeat_that_is_told_of_late_has_its_true_lag() {
    let mut bounded = Bounded::new();
    bounded.begin(at(0));
    // Visible at 1 ms, acknowledged at 3 ms: early by two. The next one is visible after its acknowledgement.
    bounded.published(at(1_000), Lsn(5)).unwrap();
    bounded.committed(Commit { lsn: Lsn(5), committed: at(3_000), intended: at(0) });
    bounded.committed(Commit { lsn: Lsn(9), committed: at(4_000), intended: at(0) });
    bounded.published(at(6_000), Lsn(9)).unwrap();
    bounded.end(at(10_000));
    let figures = bounded.finish(at(10_000)).unwrap();
    assert_eq!((figures.early, figures.largest_lead, figures.lost), (1, Duration::from_millis(2), 0));
    assert_eq!(figures.lag.sketch.quantile(1.0).unwrap().value, Duration::from_millis(2));
    // From 4 to 6 ms it was 0 to 2 ms behind: 2 us in the mean of 10 ms times 0.2 ms.
    assert_eq!(figures.age.mean(), Some(Duration::from_micros(200)));
}

/// Ten million commits, an hour at 2,800 a second; shown when asked for, as it takes a while:
/// `cargo test --release --lib ten_million_commits -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes in a debug build"]
fn ten_million_commits_take_no_more_memory_than_one() {
    let resident = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let mut random = SplitMix64::new(5);
    let (mut inside, mut outside) = (Bounded::new(), Bounded::new());
    inside.begin(at(0));
    outside.begin(at(0));
    let (mut now_us, mut checkpoint_us, mut after_a_million, mut kept) = (0u64, 5_000_000u64, 0, 0);
    for n in 1..=10_000_000u64 {
        now_us += (random.unit() * 714.0) as u64;
        let commit = Commit { lsn: Lsn(n), committed: at(now_us), intended: at(now_us) };
        inside.committed(commit);
        outside.committed(commit);
        if n % 3 == 0 {
            inside.published(at(now_us + 300), Lsn(n)).unwrap();
        }
        if now_us > checkpoint_us {
            checkpoint_us += 5_000_000;
            outside.published(at(now_us + 300), Lsn(n)).unwrap();
        }
        kept = kept.max(inside.kept() + outside.kept());
        if n == 1_000_000 {
            after_a_million = resident();
        }
    }
    let end = resident();
    println!(
        "peak RSS {after_a_million} KiB after a million commits, {end} KiB after ten million; {kept} entries kept"
    );
    for bounded in [inside, outside] {
        let figures = bounded.finish(at(now_us)).unwrap();
        assert!(figures.lag.sketch.len() > 9_999_000, "{}", figures.lag.sketch.len());
    }
    assert!(end - after_a_million < 16 * 1024, "{after_a_million} KiB, then {end} KiB");
}
