//! Which transactions one state of the server includes.

use crate::source::SourceError;

/// What `pg_current_snapshot()` says, as `xmin:xmax:xip,xip..`: every transaction before `xmin` is in, none from `xmax` on,
/// and of those between all but the ones that were running. Source: "Transaction ID and Snapshot Information Functions"
/// in PostgreSQL's documentation. Numbers are `xid8`, which never wrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgCut {
    xmin: u64,
    xmax: u64,
    running: Vec<u64>,
}

impl PgCut {
    /// Reads the text form.
    ///
    /// # Errors
    /// When it is another form.
    pub fn parse(text: &str) -> Result<PgCut, SourceError> {
        let read = || {
            let mut parts = text.split(':');
            let xmin = parts.next()?.parse().ok()?;
            let xmax = parts.next()?.parse().ok()?;
            let running = parts.next()?;
            let numbers = running.split(',').filter(|number| !number.is_empty()).map(|number| number.parse().ok());
            let mut running: Vec<u64> = numbers.collect::<Option<_>>()?;
            running.sort_unstable();
            Some(PgCut { xmin, xmax, running })
        };
        read().ok_or_else(|| SourceError::Options { what: format!("{text:?} is no snapshot of PostgreSQL") })
    }

    /// Whether the state includes what the transaction did, if it committed.
    pub fn includes(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// Every transaction before this one is in, or was rolled back.
    pub fn xmin(&self) -> u64 {
        self.xmin
    }

    /// The text form.
    pub fn text(&self) -> String {
        let running: Vec<String> = self.running.iter().map(u64::to_string).collect();
        format!("{}:{}:{}", self.xmin, self.xmax, running.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_holds_what_was_not_running() {
        let cut = PgCut::parse("10:14:13,10").unwrap();
        let held: Vec<u64> = (8..16).filter(|&xid| cut.includes(xid)).collect();
        assert_eq!((held, cut.xmin()), (vec![8, 9, 11, 12], 10));
        assert_eq!(cut.text(), "10:14:10,13");
        assert_eq!(PgCut::parse("5:5:").unwrap().text(), "5:5:");
        for wrong in ["", "1", "1:2", "a:b:", "1:2:x"] {
            assert!(PgCut::parse(wrong).is_err(), "{wrong}");
        }
    }
}
