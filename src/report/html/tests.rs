use super::*;

const HOSTILE: &str = "</script><script>alert('x')</script><img src=x onerror=\"y\">&'\"";

/// Everything in a result that is a text, made hostile.
fn hostile() -> RunResult {
    let run = sample::run(&[("full-refresh", 2.0), ("cdc-trigger", 0.1)]);
    let mut value = serde_json::to_value(&run).unwrap();
    fn spoil(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) if !["lower", "higher", "neutral"].contains(&text.as_str()) => {
                text.push_str(HOSTILE);
            }
            serde_json::Value::Array(list) => list.iter_mut().for_each(spoil),
            serde_json::Value::Object(fields) => fields.values_mut().for_each(spoil),
            _ => {}
        }
    }
    spoil(&mut value);
    serde_json::from_value(value).unwrap()
}

#[test]
fn no_text_of_a_result_becomes_markup() {
    let mut run = hostile();
    run.strategies[0].validation.passed = false;
    run.strategies[0].validation.failures.push(HOSTILE.to_owned());
    run.warnings.push(HOSTILE.to_owned());
    run.strategies[1].timeseries.age_s.insert(HOSTILE.to_owned(), vec![1.0, 2.0]);
    let html = report(&[Input::Run(Box::new(run))]);
    assert_eq!(html.matches("<script>").count(), 1, "only our own");
    assert!(!html.contains("<img"));
    assert!(!html.contains("</script><script>alert"));
    assert!(html.contains("alert("), "the text itself stays");
}

#[test]
fn the_page_asks_for_nothing() {
    let html = report(&[Input::Run(Box::new(sample::run(&[("cdc-trigger", 0.1)])))]);
    for reference in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!html.contains(reference), "{reference}");
    }
    assert!(html.contains("default-src 'none'") || html.contains("default-src &#39;none&#39;"));
}

#[test]
fn a_failed_validation_comes_before_any_figure() {
    let mut run = sample::run(&[("full-refresh", 2.0), ("cdc-trigger", 0.1)]);
    run.strategies[1].validation.passed = false;
    run.strategies[1].validation.failures.push("3 rows are wrong".to_owned());
    let html = report(&[Input::Run(Box::new(run))]);
    let alarm = html.find("VALIDATION FAILED").unwrap();
    assert!(alarm < html.find("<nav").unwrap());
    // A single strategy that counts is the best of nothing.
    assert!(!html.contains("badge best"));
}

#[test]
fn many_runs_stay_below_the_limit() {
    let runs: Vec<Input> = (0..12)
        .map(|n| {
            let mut run = sample::run(&[("full-refresh", 2.0), ("cdc-trigger", 0.1), ("incremental", 1.0)]);
            run.run_id = format!("run-{n}");
            run.started_at = format!("2026-01-{:02}T00:00:00Z", n + 1);
            Input::Run(Box::new(run))
        })
        .collect();
    let html = report(&runs);
    assert!(html.len() < PAGE_BYTES_MAX);
    assert!(html.contains("the newest 3 are shown in full"));
    assert!(html.contains("id=\"r1-run\"><h2>run-11</h2>"));
}

#[test]
fn every_figure_has_a_table_and_every_id_is_there_once() {
    let html = report(&[Input::Run(Box::new(sample::run(&[("full-refresh", 2.0), ("cdc-trigger", 0.1)])))]);
    let figures = html.matches("<figure class=\"chart\" id=").count();
    assert!(figures >= 4, "{figures}");
    assert_eq!(figures, html.matches("<summary>Figures</summary>").count());
    let mut ids: Vec<&str> = html.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
}
