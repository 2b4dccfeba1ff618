use super::*;
use crate::model::Lsn;
use crate::probe::visibility::{Publish, visible_by_watermark};
use crate::stats::SplitMix64;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn at(n: u64) -> Moment {
    Moment::ORIGIN.after(ms(n))
}

fn commit(lsn: u64, committed_ms: u64) -> Commit {
    Commit { lsn: Lsn(lsn), committed: at(committed_ms), intended: at(committed_ms.saturating_sub(2)) }
}

fn freshness(commits: &[Commit], visible: &[Option<Moment>], window: (u64, u64), until: u64) -> Freshness {
    let window = Window { start: at(window.0), end: at(window.1) };
    Freshness::of(&FreshnessInput { commits, visible, window, observed_until: at(until) })
}

#[test]
fn lags_and_age_by_hand() {
    let commits = [commit(1, 100), commit(2, 120), commit(3, 300), commit(4, 500)];
    let visible = [Some(at(150)), Some(at(140)), Some(at(299)), Some(at(600))];
    let figures = freshness(&commits, &visible, (0, 1000), 2000);
    assert_eq!(figures.lag.samples.len(), 4);
    // Lags 50, 20, 0 (1 ms early), 100.
    assert_eq!(figures.lag.quantile(0.5).unwrap().value, ms(20));
    assert_eq!(figures.lag.quantile(0.75).unwrap().value, ms(50));
    assert_eq!(figures.lag.samples.mean(), Some(Duration::from_micros(42_500)));
    assert_eq!((figures.early, figures.largest_lead, figures.lost), (1, ms(1), 0));
    assert_eq!((figures.lag.histogram.negative(), figures.clock_fault()), (1, false));
    // From the intended instant: 52, 22, 1, 102.
    assert_eq!(figures.lag_from_intended.quantile(1.0).unwrap().value, ms(102));
    assert_eq!(figures.lag_from_intended.histogram.negative(), 0);
    // Age: 100..150 grows to 50, 500..600 to 100; integral (50*50 + 100*100)/2 over 1000.
    assert_eq!(figures.age.mean, Duration::from_micros(6250));
    assert_eq!(figures.age.max, ms(100));
    assert_eq!(figures.age.p50, ms(0));
    // The largest 1 % of the time: the last 10 ms below 100.
    assert_eq!(figures.age.p99, ms(90));
    assert!(figures.age_without_lost.is_none());
}

#[test]
fn a_newer_commit_visible_first_does_not_hide_an_older_hole() {
    let commits = [commit(1, 100), commit(2, 200), commit(3, 300)];
    let visible = [Some(at(450)), Some(at(210)), Some(at(460))];
    let figures = freshness(&commits, &visible, (0, 500), 500);
    assert_eq!(figures.age.curve.at(at(449)), Some(ms(349)));
    assert_eq!(figures.age.curve.at(at(450)), Some(ms(150)));
    assert_eq!(figures.age.curve.at(at(460)), Some(ms(0)));
    assert_eq!(figures.age.max, ms(350));
}

#[test]
fn what_is_not_visible_at_the_end_is_censored_and_stays_in_the_tail() {
    let commits: Vec<_> = (1..=10).map(|n| commit(n, n * 10)).collect();
    let visible: Vec<_> = (1..=10).map(|n| (n != 3).then(|| at(n * 10 + 5))).collect();
    let figures = freshness(&commits, &visible, (0, 200), 1030);
    assert_eq!(figures.lost, 1);
    assert_eq!(figures.lag.histogram.censored(), 1);
    assert_eq!(figures.lag.histogram.max(), Some(ms(1000)));
    assert_eq!(figures.lag.quantile(0.9).unwrap().value, ms(5));
    assert!(figures.lag.quantile(0.9).unwrap().is_exact());
    let max = figures.lag.quantile(1.0).unwrap();
    assert_eq!((max.value, max.is_lower_bound()), (ms(1000), true));
    // The lost one is the oldest missing from 30 ms on, for good.
    assert_eq!(figures.age.max, ms(170));
    assert_eq!(figures.age_without_lost.unwrap().max, ms(5));
    // Watched for a shorter time, the later ones are unknown as well.
    assert_eq!(freshness(&commits, &visible, (0, 200), 90).lost, 3);
    // A commit that nothing is known of is not left out.
    assert_eq!(freshness(&commits, &visible[..8], (0, 200), 1030).lost, 3);
}

#[test]
fn only_commits_of_the_window_count_but_older_ones_age_the_sink() {
    let commits = [commit(1, 50), commit(2, 150), commit(3, 250)];
    let visible = [Some(at(120)), Some(at(160)), Some(at(255))];
    let figures = freshness(&commits, &visible, (100, 200), 300);
    assert_eq!(figures.lag.samples.len(), 1);
    assert_eq!(figures.age.curve.at(at(100)), Some(ms(50)));
    // (50..70 over 20 ms, then 0..10 over 10 ms) / 100 ms.
    assert_eq!(figures.age.mean, Duration::from_micros(12_500));
}

/// The self-test of the figures: a refresh every P that takes D has a sawtooth between D and P + D.
#[test]
fn a_full_refresh_has_mean_age_delay_plus_half_a_period() {
    let (period_ms, delay_ms) = (1000, 300);
    let commits: Vec<_> = (1..=30_000).map(|n| commit(n, n)).collect();
    // The snapshot at s takes everything committed by then and is swapped in at s + D.
    let publishes: Vec<_> = (1..30)
        .map(|n| n * period_ms)
        .map(|s| Publish { at: at(s + delay_ms), watermark: Lsn(s), delivered: None })
        .collect();
    let visible = visible_by_watermark(&commits, &publishes).unwrap();
    let figures = freshness(&commits, &visible, (2300, 28_300), 30_000);
    // Commits come every millisecond, so the oldest missing one is up to 1 ms younger than the snapshot.
    let error = figures.age.mean.abs_diff(ms(delay_ms + period_ms / 2));
    assert!(error <= ms(1), "{:?}", figures.age.mean);
    assert!(figures.age.max.abs_diff(ms(period_ms + delay_ms)) <= ms(1), "{:?}", figures.age.max);
    let lowest = figures.age.distribution.quantile(0.000_01).unwrap();
    assert!(lowest.abs_diff(ms(delay_ms)) <= ms(1), "{lowest:?}");
    let interval = figures.age.mean_interval.unwrap();
    assert!(interval.low < 0.8 && 0.8 < interval.high, "{interval:?}");
}

#[test]
fn a_frozen_sink_ages_a_second_a_second_and_a_stalled_source_does_not() {
    let commits: Vec<_> = (0..100).map(|n| commit(n + 1, n * 100)).collect();
    let figures = freshness(&commits, &[None; 100], (0, 10_000), 10_000);
    for t in [0, 1000, 5000, 9999] {
        assert_eq!(figures.age.curve.at(at(t)), Some(ms(t)));
    }
    assert_eq!(figures.age.mean, ms(5000));
    // The source stops at 1 s; its last commit is visible 20 ms later.
    let commits: Vec<_> = (1..=10).map(|n| commit(n, n * 100)).collect();
    let visible: Vec<_> = (1..=10).map(|n| Some(at(n * 100 + 20))).collect();
    let figures = freshness(&commits, &visible, (1020, 60_000), 60_000);
    assert_eq!((figures.age.max, figures.age.mean), (ms(0), ms(0)));
    assert!(figures.age.within_slo().iter().all(|&(_, share)| share == 1.0));
    assert!(figures.lag.samples.is_empty());
}

/// The definition, evaluated at one instant.
fn age_at(commits: &[(Commit, Option<Moment>)], t: Moment) -> Duration {
    let missing = commits.iter().filter(|(commit, visible)| commit.committed <= t && visible.is_none_or(|v| v > t));
    missing.map(|(commit, _)| commit.committed).min().map_or(Duration::ZERO, |oldest| t.since(oldest))
}

#[test]
fn any_run_agrees_with_the_definition() {
    for seed in 0..1000 {
        let mut random = SplitMix64::new(seed);
        let window =
            Window { start: Moment::from_nanos(random.below(30)), end: Moment::from_nanos(60 + random.below(40)) };
        let commits: Vec<_> = (0..random.below(12))
            .map(|n| {
                let committed = Moment::from_nanos(random.below(100));
                let visible = (random.below(5) > 0)
                    .then(|| Moment::from_nanos((committed.as_nanos() + random.below(30)).saturating_sub(5)));
                (Commit { lsn: Lsn(n + 1), committed, intended: committed }, visible)
            })
            .collect();
        let curve = age_curve(commits.iter().copied(), window);
        assert_eq!((curve.start(), curve.end()), (window.start, window.end), "seed {seed}");
        // Every event is on a whole nanosecond, so between two of them the age is a straight line.
        let (mut twice_integral, mut ages) = (0, Vec::new());
        for ns in window.start.as_nanos()..window.end.as_nanos() {
            let age = age_at(&commits, Moment::from_nanos(ns));
            assert_eq!(curve.at(Moment::from_nanos(ns)), Some(age), "seed {seed}, {ns} ns");
            let missing =
                commits.iter().any(|(c, v)| c.committed.as_nanos() <= ns && v.is_none_or(|v| v.as_nanos() > ns));
            twice_integral += 2 * age.as_nanos() + u128::from(missing);
            ages.push((age.as_nanos(), missing));
        }
        let mean = twice_integral / 2 / window.length().as_nanos();
        assert_eq!(curve.mean().unwrap().as_nanos(), mean, "seed {seed}");
        for theta in 0..100_u32 {
            // A nanosecond that begins at an age grows through the next: within theta if it ends there.
            let within = ages.iter().filter(|(age, grows)| age + u128::from(*grows) <= theta.into()).count();
            let share = within as f64 / ages.len() as f64;
            let seen = curve.distribution().share_within(Duration::from_nanos(theta.into())).unwrap();
            assert!((seen - share).abs() < 1e-12, "seed {seed}, theta {theta}: {seen} against {share}");
        }
    }
}
