//! How a run's warehouse is built.

use super::{PlanError, RawPlan, flag_error, parse_count};
use crate::sink::WarehouseOptions;

impl RawPlan {
    pub(super) fn warehouse(&self) -> Result<WarehouseOptions, PlanError> {
        const THREADS_MAX: usize = 64;
        let mut options = WarehouseOptions {
            versions_kept: self.keep_versions.map_or(1, usize::from),
            ..WarehouseOptions::default()
        };
        if let Some(threads) = self.compaction_threads {
            if threads > THREADS_MAX {
                return Err(flag_error("--compaction-threads", &threads.to_string(), "expected 0 to 64"));
            }
            options.compaction_threads = threads;
        }
        if let Some(percent) = self.dead_rows {
            if !(1..=100).contains(&percent) {
                return Err(flag_error("--dead-rows", &percent.to_string(), "expected 1 to 100 percent"));
            }
            options.dead_percent_max = percent;
        }
        if let Some(bytes) = self.warehouse_memory.as_deref() {
            let limit = parse_count(bytes).ok().filter(|bytes| *bytes > 0);
            let remedy = "expected bytes, such as 500M";
            options.memory_bytes_max = Some(limit.ok_or_else(|| flag_error("--warehouse-memory", bytes, remedy))?);
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_and_have_defaults() -> Result<(), PlanError> {
        assert_eq!(RawPlan::default().warehouse()?, WarehouseOptions::default());
        let memory = |text: &str| RawPlan { warehouse_memory: Some(text.to_owned()), ..RawPlan::default() }.warehouse();
        assert_eq!(memory("500M")?.memory_bytes_max, Some(500_000_000));
        for text in ["0", "much", "-1"] {
            let error = memory(text).expect_err("no limit").to_string();
            assert!(error.starts_with(&format!("--warehouse-memory {text}: ")), "{error}");
        }
        let dead = RawPlan { dead_rows: Some(0), ..RawPlan::default() }.warehouse().expect_err("never reached");
        assert!(dead.to_string().contains("expected 1 to 100"), "{dead}");
        assert!(RawPlan { compaction_threads: Some(65), ..RawPlan::default() }.warehouse().is_err());
        Ok(())
    }
}
