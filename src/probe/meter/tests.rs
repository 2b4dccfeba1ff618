use super::*;

fn name(name: &str) -> impl FnOnce() -> Option<String> {
    let name = name.to_owned();
    move || Some(name)
}

#[test]
fn roles_go_by_the_prefix() {
    assert_eq!(Role::of("src-client-12"), Role::Source);
    assert_eq!(Role::of("app-shard-0"), Role::Apply);
    assert_eq!(Role::of("mtr-cpu"), Role::Meter);
    assert_eq!(Role::of("freshbench"), Role::Other);
    assert_eq!(Role::of("application"), Role::Other);
}

#[test]
fn the_threads_of_the_search_index_apply() {
    // Their whole names, and what the kernel keeps of them.
    for whole in ["thrd-tantivy-index0", "thrd-tantivy-index1234", "merge_thread_1", "segment_updater"] {
        assert_eq!(Role::of(whole), Role::Apply, "{whole}");
        assert_eq!(Role::of(&whole[..whole.len().min(15)]), Role::Apply, "{whole}");
    }
    assert_eq!(Role::of("segment"), Role::Other);
}

#[test]
fn ended_and_renamed_threads_keep_their_time() {
    let mut times = ThreadTimes::default();
    times.update(1, 50, name("freshbench"));
    times.update(2, 10, name("freshbench"));
    times.forget_ended();
    // Thread 2 named itself meanwhile.
    times.update(1, 60, name("freshbench"));
    times.update(2, 30, name("app-merge"));
    times.forget_ended();
    assert_eq!(times.ns_by_name["freshbench"], 60);
    assert_eq!(times.ns_by_name["app-merge"], 30);
    // It ends; another thread gets its number.
    times.update(1, 60, name("freshbench"));
    times.forget_ended();
    times.update(2, 7, name("cap-poll"));
    times.forget_ended();
    assert_eq!(times.ns_by_name["app-merge"], 30);
    assert_eq!(times.ns_by_name["cap-poll"], 7);
    assert_eq!(times.live.len(), 1);
    // Or gets it between two readings.
    times.update(2, 3, name("log-sync"));
    assert_eq!((times.ns_by_name["cap-poll"], times.ns_by_name["log-sync"]), (7, 3));
}

#[test]
fn a_difference_by_hand() {
    let snapshot = |at_s, cpu_ms, threads: &[(&str, u64)], io| Snapshot {
        at: Moment::ORIGIN.after(Duration::from_secs(at_s)),
        process_cpu: Duration::from_millis(cpu_ms),
        cpu_ns_by_name: threads.iter().map(|&(name, ms)| (name.to_owned(), ms * 1_000_000)).collect(),
        io,
        peak_reset: false,
    };
    let begin = snapshot(1, 100, &[("src-client-0", 40), ("old", 60)], None);
    let end = snapshot(6, 400, &[("src-client-0", 90), ("src-client-1", 30), ("app-x", 200), ("old", 60)], None);
    let usage = difference(&begin, &end);
    assert_eq!((usage.length, usage.process_cpu), (Duration::from_secs(5), Duration::from_millis(300)));
    assert_eq!(usage.cpu_of(Role::Source), Duration::from_millis(80));
    assert_eq!(
        usage.threads.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(),
        ["app-x", "src-client-0", "src-client-1"]
    );
    assert_eq!(usage.unattributed, Duration::from_millis(20));
    assert_eq!(usage.by_role().keys().copied().collect::<Vec<_>>(), [Role::Source, Role::Apply]);
    assert!(usage.io.is_none());
}

#[test]
#[cfg(target_os = "linux")]
fn a_busy_thread_is_found_even_after_it_ended() -> Result<(), ProbeError> {
    let meter = Meter::start(&Clock::monotonic())?;
    let begin = meter.begin();
    let busy = std::thread::Builder::new().name("app-busy".into());
    let worker = busy.spawn(|| {
        let cpu = || clock_gettime(ClockId::ThreadCPUTime);
        let start = cpu();
        let mut rounds = 0_u64;
        let spent = || {
            let now = cpu();
            (now.tv_sec - start.tv_sec) * 1_000_000_000 + now.tv_nsec - start.tv_nsec
        };
        while spent() < 1_000_000_000 {
            rounds = rounds.wrapping_add(1);
        }
        rounds
    });
    worker.unwrap().join().unwrap();
    let usage = meter.usage_since(&begin);
    meter.stop()?;
    // The thread used 1 s, five times the interval of the readings.
    let found = usage.cpu_of(Role::Apply);
    assert!(!found.is_zero() && found < Duration::from_millis(1100), "{usage:?}");
    assert!(usage.process_cpu >= Duration::from_millis(1000), "{usage:?}");
    assert!(usage.io.is_some());
    assert!(usage.peak_rss.is_some_and(|peak| peak.bytes > 1 << 20), "{usage:?}");
    Ok(())
}
