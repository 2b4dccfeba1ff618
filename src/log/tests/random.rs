//! Random operations against a vector that does the same.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Sync,
    /// Drops the log as a killed process would, cuts so many bytes (of what was not acknowledged) and opens it again.
    Crash(u64),
    Retain(u64),
    ReadFrom(u64),
    /// Reads a few records with a reader that lives on.
    Follow(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..400).prop_map(Step::Append),
        4 => Just(Step::Sync),
        1 => (0u64..600).prop_map(Step::Crash),
        1 => (0u64..60).prop_map(Step::Retain),
        2 => (0u64..60).prop_map(Step::ReadFrom),
        2 => (0usize..8).prop_map(Step::Follow),
    ]
}

struct Model {
    folder: tempfile::TempDir,
    options: LogOptions,
    log: Option<Log>,
    follower: Option<LogReader>,
    /// Lengths of all records appended.
    lengths: Vec<usize>,
    visible: usize,
}

impl Model {
    fn new(options: LogOptions) -> Model {
        let folder = small_folder();
        let log = Some(open(folder.path(), &options).unwrap().0);
        Model { folder, options, log, follower: None, lengths: Vec::new(), visible: 0 }
    }

    fn run(&mut self, step: &Step) {
        let log = self.log.as_mut().unwrap();
        match *step {
            Step::Append(bytes) => {
                let offset = append(log, self.lengths.len() as u64, bytes);
                assert_eq!(offset.0, self.lengths.len() as u64);
                self.lengths.push(bytes);
            }
            Step::Sync => {
                self.visible = self.lengths.len();
                assert_eq!(log.sync().unwrap().0, self.visible as u64);
            }
            Step::Crash(cut) => self.crash(cut),
            Step::Retain(offset) => {
                let lowest = log.retain_from(Offset(offset)).unwrap().0;
                assert!(lowest <= offset.max(log.handle().visible_offset().0));
                self.follower = None;
            }
            Step::ReadFrom(from) => self.read_from(from),
            Step::Follow(count) => self.follow(count),
        }
        let log = self.log.as_ref().unwrap();
        assert_eq!(log.handle().visible_offset().0, self.visible as u64);
        assert_eq!(log.durable_offset().0, self.visible as u64);
    }

    fn crash(&mut self, cut: u64) {
        let visible_bytes = self.log.as_ref().unwrap().visible_end();
        self.follower = None;
        self.log = None;
        let last = segments(self.folder.path()).pop().unwrap();
        let content = fs::read(&last).unwrap();
        let bytes = content.len() as u64;
        let end = torn::torn(&content);
        let least = if visible_bytes.0 == last { visible_bytes.1 } else { 32 };
        let file = fs::OpenOptions::new().write(true).open(&last).unwrap();
        let kept = end.saturating_sub(cut).max(least);
        file.set_len(kept).unwrap();
        if cut % 2 == 1 {
            // As in space that was prepared: lost, and as long as before.
            file.set_len(bytes).unwrap();
        }
        let (log, recovery) = open(self.folder.path(), &self.options).unwrap();
        let next = recovery.next.0 as usize;
        assert!(self.visible <= next && next <= self.lengths.len(), "{} <= {next}", self.visible);
        self.lengths.truncate(next);
        self.visible = next;
        self.log = Some(log);
    }

    fn read_from(&self, from: u64) {
        let log = self.log.as_ref().unwrap();
        match log.reader(Offset(from)) {
            Ok(mut reader) => {
                let wanted = expected(from, &self.lengths[from as usize..self.visible]);
                assert_eq!(read_all(&mut reader).unwrap(), wanted);
            }
            Err(LogError::BelowRetention { lowest, .. }) => assert!(from < lowest.0),
            Err(LogError::BeyondEnd { next, .. }) => assert!(from > next.0 && next.0 == self.visible as u64),
            Err(other) => panic!("{other}"),
        }
    }

    fn follow(&mut self, count: usize) {
        let handle = self.log.as_ref().unwrap().handle();
        let follower = self.follower.get_or_insert_with(|| handle.reader(handle.lowest_offset()).unwrap());
        for _ in 0..count {
            let at = follower.next_offset().0 as usize;
            match follower.next().unwrap() {
                Some(record) => assert_eq!(record.payload, payload(at as u64, self.lengths[at])),
                None => assert_eq!(at, self.visible),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_log_does_as_a_vector_does(
        steps in prop::collection::vec(step(), 1..150),
        record_bytes_max in 45u32..300,
        segment_bytes_max in 100u64..5_000,
        buffer_bytes_max in 1usize..2_000,
        prepared_bytes_max in 0usize..2_000,
    ) {
        let mut model = Model::new(LogOptions {
            record_bytes_max, segment_bytes_max, buffer_bytes_max, prepared_bytes_max, ..LogOptions::default()
        });
        for step in &steps {
            model.run(step);
        }
    }
}
