//! How fast transactions are generated on one core: elements are statements that change a row; reads
//! are generated in the same time and not counted.
//!
//! The answer is checked before it is timed: the stream must have its golden digest.

mod allocator;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use freshbench::workload::{Overrides, Statement, Workload};
use std::hint::black_box;
use std::time::Duration;

const TRANSACTIONS: usize = 20_000;

/// Digests of the first 2,000 transactions on 1,000 rows, as in `tests/workload_golden.rs`.
const GOLDEN: [(&str, &str); 4] = [
    ("orders", "ff98975e95a662d4d48d16354c6be371"),
    ("ycsb-a", "8f0235c3f1cdad58531158ab4f43b29e"),
    ("ycsb-d", "abaa07ced0bf0c8493657ce5bfe8a8a5"),
    ("ycsb-f", "eac90bfd5ea015ffa742d315658acc7b"),
];

fn load(name: &str, rows: Option<u64>) -> Workload {
    Workload::load(name, &Overrides { rows, ..Overrides::default() }).unwrap_or_else(|error| {
        eprintln!("generate/{name}: {error}");
        std::process::exit(1)
    })
}

fn generate(c: &mut Criterion) {
    let mut group = c.benchmark_group("generate");
    for (name, golden) in GOLDEN {
        let (small, workload) = (load(name, Some(1_000)), load(name, None));
        assert_eq!(small.stream_digest(2_000), golden, "{name}: not the stream it was");
        let statements: Vec<Statement> = workload.stream().take(TRANSACTIONS).flat_map(|txn| txn.statements).collect();
        let writes = statements.iter().filter(|statement| statement.is_write()).count();
        group.throughput(Throughput::Elements(writes as u64));
        group.bench_function(BenchmarkId::new(name, TRANSACTIONS), |b| {
            b.iter(|| {
                let mut stream = workload.stream();
                for _ in 0..TRANSACTIONS {
                    black_box(stream.next());
                }
            });
        });
    }
    group.finish();
}

/// Shorter than criterion's own times, so that all benches together take minutes.
fn short() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3))
}

criterion_group! {
    name = benches;
    config = short();
    targets = generate
}
criterion_main!(benches);
