//! What the measuring itself costs, printed rather than asserted:
//! `cargo test --release --test probe_figures -- --ignored --nocapture --test-threads=1`.

use freshbench::clock::Clock;
use freshbench::model::{Key, KeyRef, Lsn, Moment, TableId};
use freshbench::probe::{
    Commit, Existence, Freshness, FreshnessInput, Meter, Publish, RowChange, StageFigures, StageTimes,
    VisibilityRecorder, Window, visible_by_delivery, visible_by_watermark,
};
use freshbench::stats::{Histogram, SplitMix64};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

type Outcome = Result<(), Box<dyn Error>>;

const COMMITS: u64 = 100_000;

fn timed<T>(what: &str, body: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = body();
    println!("{what}: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    result
}

fn commits() -> Vec<Commit> {
    let mut random = SplitMix64::new(1);
    (1..=COMMITS)
        .map(|lsn| {
            let intended = Moment::from_nanos(lsn * 500_000);
            Commit { lsn: Lsn(lsn), committed: intended.after(Duration::from_nanos(random.below(3_000_000))), intended }
        })
        .collect()
}

/// A publish every 20 ms, of what was intended until 10 ms before.
fn publishes(keys: impl Fn(u64, u64) -> Option<Vec<(TableId, Key)>>) -> Vec<Publish> {
    let mut last = 0;
    (1..=COMMITS / 40 + 2)
        .map(|k| {
            let through = (k * 40).saturating_sub(20).min(COMMITS);
            let delivered = keys(last, through);
            last = through;
            Publish { at: Moment::from_nanos(k * 20_000_000), watermark: Lsn(through), delivered }
        })
        .collect()
}

/// One commit group a publish, all of whose marks are the publish.
fn groups(publishes: &[Publish]) -> Vec<StageTimes> {
    let mut first = 1;
    let group = |publish: &Publish| {
        let (at, last) = (publish.at, publish.watermark);
        let group =
            StageTimes { first: Lsn(first), last, read_at: at, folded_at: at, applied_at: at, published_at: at };
        first = last.0 + 1;
        group
    };
    publishes.iter().map(group).collect()
}

#[test]
#[ignore = "prints figures; see the top of the file"]
fn analysis_of_100k_commits() -> Outcome {
    let commits = commits();
    let publishes = publishes(|_, _| None);
    let visible = timed("visibility by watermark", || visible_by_watermark(&commits, &publishes))?;
    let window = Window { start: Moment::from_nanos(5_000_000_000), end: Moment::from_nanos(50_000_000_000) };
    let input =
        FreshnessInput { commits: &commits, visible: &visible, window, observed_until: Moment::from_nanos(60 << 30) };
    let figures = timed("lag and age", || Freshness::of(&input));
    println!("  p50 {:?}, age mean {:?} max {:?}", figures.lag.quantile(0.5), figures.age.mean, figures.age.max);
    println!("  p99 {:?} in {:?}", figures.lag.quantile(0.99), figures.lag.interval(0.99));
    let groups = groups(&publishes);
    let stages = timed("stages", || StageFigures::of(&commits, &[], &groups, window));
    assert_eq!(stages.lag.mean(), figures.lag.histogram.mean());
    Ok(())
}

#[test]
#[ignore = "prints figures; see the top of the file"]
fn visibility_by_delivery_of_500k_changes() -> Outcome {
    let commits = commits();
    let mut random = SplitMix64::new(2);
    let history: Vec<RowChange> = (1..=COMMITS * 5)
        .map(|n| RowChange {
            lsn: Lsn(n.div_ceil(5)),
            table: TableId((n % 3) as u32),
            key: Key::Int(random.below(50_000) as i64),
            after: if random.below(20) == 0 { Existence::Absent } else { Existence::Present },
        })
        .collect();
    let publishes = publishes(|last, through| {
        let range = history.get(last as usize * 5..through as usize * 5).unwrap_or_default();
        let kept = range.iter().filter(|change| change.after == Existence::Present);
        Some(kept.map(|change| (change.table, change.key.clone())).collect())
    });
    let initial = |_, key: KeyRef<'_>| matches!(key, KeyRef::Int(..40_000));
    let visible = timed("visibility by delivery", || visible_by_delivery(&commits, &publishes, &history, &initial))?;
    println!("  never visible: {}", visible.iter().filter(|at| at.is_none()).count());
    Ok(())
}

#[test]
#[ignore = "prints figures; see the top of the file"]
fn recording() -> Outcome {
    const TIMES: u64 = 1_000_000;
    let (mut histogram, mut random) = (Histogram::new(), SplitMix64::new(1));
    timed("1,000,000 x Histogram::record", || {
        (0..TIMES).for_each(|_| histogram.record(Duration::from_nanos(random.below(1 << 30))));
    });
    let text = timed("Histogram::encode", || histogram.encode())?;
    println!("  {} bytes", text.len());
    let mut recorder = VisibilityRecorder::new();
    let clock = Clock::monotonic();
    timed("1,000,000 x VisibilityRecorder::published, clock read included", || {
        (0..TIMES).for_each(|n| recorder.published(clock.now(), Lsn(n)));
    });
    black_box(recorder.publishes().len());
    Ok(())
}

#[test]
#[ignore = "prints figures; see the top of the file"]
fn metering() -> Outcome {
    let clock = Clock::monotonic();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let stopped = std::sync::Arc::new(std::sync::Mutex::new(stopped));
    for n in 0..20 {
        let stopped = std::sync::Arc::clone(&stopped);
        let wait = move || drop(stopped.lock().map(|receiver| receiver.recv()));
        std::thread::Builder::new().name(format!("src-client-{n}")).spawn(wait)?;
    }
    let meter = Meter::start(&clock)?;
    let begin = timed("Meter::begin with 24 threads", || meter.begin());
    std::thread::sleep(Duration::from_secs(5));
    let usage = timed("Meter::usage_since", || meter.usage_since(&begin));
    println!("  in {:?}: {:?}", usage.length, usage.threads);
    println!("  process {:?}, unattributed {:?}", usage.process_cpu, usage.unattributed);
    println!("  {:?}, {:?}", usage.io, usage.peak_rss);
    drop(stop);
    meter.stop()?;
    Ok(())
}
