use super::*;
use crate::stats::Slope;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn at(n: u64) -> Moment {
    Moment::ORIGIN.after(ms(n))
}

fn commit(lsn: u64, committed_ms: u64) -> Commit {
    Commit { lsn: Lsn(lsn), committed: at(committed_ms), intended: at(committed_ms) }
}

fn sample(times: [u64; 3], watermark: Option<u64>, broken: &[&str]) -> ProbeSample {
    let [intended, started, finished] = times.map(at);
    let broken = broken.iter().map(|&name| name.to_owned()).collect();
    ProbeSample { intended, started, finished, watermark: watermark.map(Lsn), broken }
}

#[test]
fn staleness_and_reaction_by_hand() {
    // Commit 2 was acknowledged later than commit 3.
    let commits = [commit(1, 10), commit(2, 40), commit(3, 30), commit(4, 200)];
    let record = ProbeRecord {
        samples: vec![
            sample([50, 50, 55], Some(1), &[]),
            sample([60, 70, 90], Some(2), &["totals", "sum"]),
            sample([100, 100, 101], Some(3), &["sum"]),
            sample([110, 110, 111], None, &[]),
            sample([150, 150, 152], Some(2), &[]),
            sample([900, 900, 999], Some(0), &["outside the window"]),
        ],
        ..ProbeRecord::default()
    };
    let window = Window { start: at(0), end: at(500) };
    let figures = ProbeFigures::of(&record, Staleness::ByWatermark(&commits), window);
    // At 50, with watermark 1, the oldest missing is commit 3 of 30; at 70 too; at 100 nothing is; at 150 again.
    let seconds: Vec<_> = figures.staleness.samples.seconds().collect();
    assert_eq!(seconds, [0.0, 0.020, 0.040, 0.120]);
    let seconds: Vec<_> = figures.reaction.samples.seconds().collect();
    assert_eq!(seconds, [0.001, 0.025, 0.060, 0.122]);
    assert_eq!(figures.latency_from_intended.samples.max().unwrap().value, ms(30));
    assert_eq!((figures.reads, figures.failed, figures.broken_reads, figures.went_back), (4, 1, 2, 1));
    assert_eq!(figures.broken_per_1000(), Some(500.0));
    assert_eq!(figures.broken, BTreeMap::from([("sum".to_owned(), 2), ("totals".to_owned(), 1)]));

    let mut curve = AgeCurve::new(at(0));
    curve.push(ms(500), ms(7), Slope::Growing);
    let figures = ProbeFigures::of(&record, Staleness::ByCurve(&curve), window);
    assert_eq!(figures.staleness.samples.max().unwrap().value, ms(157));
}

#[test]
fn a_record_without_reads_has_no_figures() {
    let window = Window { start: at(0), end: at(500) };
    let figures = ProbeFigures::of(&ProbeRecord::default(), Staleness::ByWatermark(&[]), window);
    assert_eq!(figures.broken_per_1000(), None);
    assert_eq!(figures.staleness.samples.quantile(0.5), None);
}

struct Counting {
    reads: Arc<AtomicU64>,
    pause: Duration,
}

impl ProbeTarget for Counting {
    fn read(&self) -> Result<ProbeRead<'_>, Box<dyn Error + Send + Sync>> {
        let n = self.reads.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.pause);
        if n == 1 { Err("disk on fire".into()) } else { Ok(ProbeRead { watermark: Lsn(n), broken: vec!["sum"] }) }
    }
}

fn run(reads_per_s: f64, pause: Duration, wanted: u64) -> ProbeRecord {
    let reads = Arc::new(AtomicU64::new(0));
    let target = Box::new(Counting { reads: Arc::clone(&reads), pause });
    let prober = Prober::start(target, &Clock::monotonic(), ProberOptions { reads_per_s, seed: 3 }).unwrap();
    while reads.load(Ordering::SeqCst) < wanted {
        std::thread::yield_now();
    }
    prober.stop().unwrap()
}

#[test]
fn reads_follow_the_seeded_schedule() {
    let record = run(5000.0, Duration::ZERO, 20);
    assert!(record.samples.len() >= 20);
    assert!(record.samples.iter().all(|s| s.intended <= s.started && s.started <= s.finished));
    assert_eq!(record.first_error.as_deref(), Some("disk on fire"));
    assert_eq!(record.samples[1].watermark, None);
    assert_eq!(
        (record.samples[2].watermark, record.samples[2].broken.as_slice()),
        (Some(Lsn(2)), ["sum".to_owned()].as_slice())
    );
    // The gaps are those of the seed.
    let mut random = SplitMix64::new(3);
    random.next_u64();
    for pair in record.samples.windows(2) {
        let gap = random.exponential(Duration::from_micros(200)).max(Duration::from_nanos(1));
        assert_eq!(pair[1].intended.since(pair[0].intended), gap);
    }
}

#[test]
fn a_slow_target_makes_reads_late_and_none_is_left_out() {
    let record = run(100_000.0, ms(2), 5);
    let last = record.samples.last().unwrap();
    assert!(last.started.since(last.intended) > ms(1), "{last:?}");
    // What was due and not made any more is counted.
    assert!(record.missed > 0);
}

#[test]
fn stopping_does_not_wait_for_the_next_read() {
    for reads_per_s in [1e-6, 0.0, -1.0, f64::NAN] {
        let target = Box::new(Counting { reads: Arc::default(), pause: Duration::ZERO });
        let options = ProberOptions { reads_per_s, seed: 1 };
        let record = Prober::start(target, &Clock::monotonic(), options).unwrap().stop().unwrap();
        assert_eq!((record.samples.len(), record.missed), (0, 0), "{reads_per_s}");
    }
}

#[test]
fn a_true_watermark_and_the_age_curve_agree_at_every_instant() {
    use crate::probe::visibility::{Publish, visible_by_watermark};
    for seed in 0..300 {
        let mut random = SplitMix64::new(seed);
        let window = Window { start: Moment::ORIGIN, end: Moment::from_nanos(120) };
        let commits: Vec<Commit> = (1..=random.below(12))
            .map(|lsn| Moment::from_nanos(8 * lsn + random.below(12)))
            .enumerate()
            .map(|(n, committed)| Commit { lsn: Lsn(n as u64 + 1), committed, intended: committed })
            .collect();
        let (mut now, mut watermark) = (0, 0);
        let publishes: Vec<Publish> = (0..random.below(8))
            .map(|_| {
                now += random.below(25);
                watermark += random.below(4);
                Publish { at: Moment::from_nanos(now), watermark: Lsn(watermark), delivered: None }
            })
            .collect();
        let visible = visible_by_watermark(&commits, &publishes).unwrap();
        let curve = crate::probe::freshness::age_curve(commits.iter().copied().zip(visible), window);
        let by_watermark = Staleness::ByWatermark(&commits);
        let by_watermark = by_watermark.resolve();
        for t in (0..120).map(Moment::from_nanos) {
            let seen = publishes.iter().rev().find(|publish| publish.at <= t).map_or(Lsn::ZERO, |p| p.watermark);
            assert_eq!(by_watermark.at(t, seen), curve.at(t), "seed {seed}, {t:?}");
        }
    }
}
