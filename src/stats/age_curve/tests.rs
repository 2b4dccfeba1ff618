use super::*;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn at(n: u64) -> Moment {
    Moment::ORIGIN.after(ms(n))
}

/// Between `delay` and `delay + period`, `teeth` times.
fn sawtooth(delay: Duration, period: Duration, teeth: u32) -> AgeCurve {
    let mut curve = AgeCurve::new(at(500));
    (0..teeth).for_each(|_| curve.push(period, delay, Slope::Growing));
    curve
}

#[test]
fn a_sawtooth_has_mean_delay_and_half_a_period() {
    let curve = sawtooth(ms(200), ms(1000), 7);
    assert_eq!(curve.mean(), Some(ms(700)));
    assert_eq!(curve.max(), Some(ms(1200)));
    assert_eq!(curve.length(), ms(7000));
    let ages = curve.distribution();
    // Even between 200 and 1200 ms.
    assert_eq!(ages.quantile(0.5), Some(ms(700)));
    assert_eq!(ages.quantile(0.99), Some(ms(1190)));
    assert_eq!(ages.quantile(1.0), Some(ms(1200)));
    assert_eq!(ages.share_within(ms(100)), Some(0.0));
    assert_eq!(ages.share_within(ms(450)), Some(0.25));
    assert_eq!(ages.share_within(ms(5000)), Some(1.0));
    // Every part holds one whole tooth, so the interval has no width.
    let interval = curve.mean_interval(7).unwrap();
    assert!((interval.low - 0.7).abs() < 1e-9 && (interval.high - 0.7).abs() < 1e-9, "{interval:?}");
}

#[test]
fn an_idle_source_has_age_zero() {
    let mut curve = AgeCurve::new(at(0));
    curve.push(ms(60_000), Duration::ZERO, Slope::Level);
    assert_eq!(curve.mean(), Some(Duration::ZERO));
    assert_eq!(curve.max(), Some(Duration::ZERO));
    assert_eq!(curve.distribution().quantile(0.99), Some(Duration::ZERO));
    assert_eq!(curve.distribution().share_within(Duration::ZERO), Some(1.0));
}

#[test]
fn a_frozen_sink_grows_a_second_a_second() {
    let mut curve = AgeCurve::new(at(0));
    curve.push(ms(1000), Duration::ZERO, Slope::Level);
    curve.push(ms(3000), Duration::ZERO, Slope::Growing);
    // (0 * 1 + 3 * 3 / 2) / 4 s.
    assert_eq!(curve.mean(), Some(ms(1125)));
    assert_eq!(curve.at(at(3500)), Some(ms(2500)));
    assert_eq!(curve.at(at(4000)), None);
    let ages = curve.distribution();
    assert_eq!(ages.quantile(0.25), Some(Duration::ZERO));
    assert_eq!(ages.quantile(0.5), Some(ms(1000)));
    assert_eq!(ages.share_within(ms(0)), Some(0.25));
    assert_eq!(ages.share_within(ms(1500)), Some(0.625));
    assert_eq!(
        curve.sampled(ms(1000)),
        [(at(0), ms(0)), (at(1000), ms(0)), (at(2000), ms(1000)), (at(3000), ms(2000))]
    );
    assert_eq!(curve.peaks(ms(2000)), [(at(0), ms(1000)), (at(2000), ms(3000))]);
}

#[test]
fn levels_and_growth_mix() {
    let mut curve = AgeCurve::new(at(0));
    curve.push(ms(100), ms(30), Slope::Level);
    curve.push(ms(40), ms(10), Slope::Growing);
    curve.push(ms(60), Duration::ZERO, Slope::Level);
    // Time by age: 60 at 0; then 1 a ms from 10 to 50; 100 more at 30.
    let ages = curve.distribution();
    assert_eq!(ages.quantile(0.3), Some(ms(0)));
    assert_eq!(ages.quantile(0.35), Some(ms(20)));
    assert_eq!(ages.quantile(0.5), Some(ms(30)));
    assert_eq!(ages.quantile(0.95), Some(ms(40)));
    assert_eq!(ages.share_within(ms(29)), Some(79.0 / 200.0));
    assert_eq!(ages.share_within(ms(30)), Some(180.0 / 200.0));
    // (100*30 + 40*30 + 0) / 200.
    assert_eq!(curve.mean(), Some(ms(21)));
}

#[test]
fn clipping_keeps_the_ages() {
    let curve = sawtooth(ms(200), ms(1000), 3);
    let part = curve.clip(at(1000), at(2000));
    assert_eq!((part.start(), part.end(), part.segments().len()), (at(1000), at(2000), 2));
    assert_eq!(part.segments()[0].age, ms(700));
    // From 700 to 1200 and from 200 to 700.
    assert_eq!(part.mean(), Some(ms(700)));
    assert_eq!(curve.clip(at(0), at(100)).mean(), None);
}

#[test]
fn a_curve_of_no_length_has_no_figures() {
    let curve = AgeCurve::new(at(3));
    assert_eq!((curve.mean(), curve.max(), curve.at(at(3))), (None, None, None));
    assert_eq!(curve.distribution().quantile(0.5), None);
    assert_eq!(curve.distribution().share_within(ms(1)), None);
    assert_eq!(curve.mean_interval(10), None);
}

#[test]
fn what_lies_between_parts_of_a_curve_is_left_out() {
    // Teeth from 0 to 1000 ms at 500, 1500 and 2500 ms.
    let curve = sawtooth(Duration::ZERO, ms(1000), 3);
    let parts = curve.within(&[(at(500), at(1000)), (at(2000), at(2700))]);
    // 0 to 500, 500 to 1000 and 0 to 200 ms: (125,000 + 375,000 + 20,000) / 1,200 ms.
    assert_eq!(parts.length(), ms(1200));
    assert_eq!(parts.mean().map(|mean| mean.as_micros()), Some(433_333));
    assert_eq!(parts.max(), Some(ms(1000)));
    assert_eq!(curve.within(&[(at(0), at(9999))]), curve);
    assert_eq!(curve.within(&[]).length(), Duration::ZERO);
    assert_eq!(curve.within(&[(at(600), at(600)), (at(1500), at(1600))]).max(), Some(ms(100)));
}
