//! How fast transactions are generated on one core: elements are statements that change a row (all statements for a
//! workload of reads).
//!
//! The answer is checked before it is timed: the stream has the digest it had the last time it was made.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use freshbench::workload::{Overrides, Statement, Workload};
use std::hint::black_box;

const TRANSACTIONS: usize = 20_000;

fn generate(c: &mut Criterion) {
    let mut group = c.benchmark_group("generate");
    for name in ["orders", "ycsb-a", "ycsb-d", "ycsb-f"] {
        let workload = match Workload::load(name, &Overrides::default()) {
            Ok(workload) => workload,
            Err(error) => return eprintln!("generate/{name}: {error}"),
        };
        let twice = [workload.stream_digest(1_000), workload.stream_digest(1_000)];
        assert_eq!(twice[0], twice[1], "{name}: one seed gave two streams");
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

criterion_group!(benches, generate);
criterion_main!(benches);
