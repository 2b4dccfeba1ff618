//! Many tests at once.

/// The p-values adjusted so that calling significant what is at most `q` lets in a share of at most `q` false discoveries
/// (Benjamini & Hochberg 1995), in the order given: of the i-th smallest of m, the least `p_j m / j` over `j >= i`. Holds for
/// independent tests and for those that move together (Benjamini & Yekutieli 2001), as figures of one run do.
pub fn benjamini_hochberg(ps: &[f64]) -> Vec<f64> {
    let count = ps.len() as f64;
    let mut order: Vec<(usize, f64)> = ps.iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut adjusted = ps.to_vec();
    let mut least = 1.0_f64;
    for (above, (place, p)) in order.into_iter().enumerate() {
        least = least.min(p * count / (count - above as f64));
        if let Some(slot) = adjusted.get_mut(place) {
            *slot = least;
        }
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjusted_by_hand_and_as_scipy_has_it() {
        // Sorted 0.01 0.02 0.03 0.5: times 4/1, 4/2, 4/3, 1: 0.04 0.04 0.04 0.5.
        // scipy 1.16: scipy.stats.false_discovery_control([0.02, 0.5, 0.01, 0.03]) gives the same.
        let seen = benjamini_hochberg(&[0.02, 0.5, 0.01, 0.03]);
        for (seen, wanted) in seen.iter().zip([0.04, 0.5, 0.04, 0.04]) {
            assert!((seen - wanted).abs() < 1e-12, "{seen}");
        }
        // Sorted 0.001 0.04 0.6: 0.003 0.06 0.6.
        let seen = benjamini_hochberg(&[0.6, 0.001, 0.04]);
        for (seen, wanted) in seen.iter().zip([0.6, 0.003, 0.06]) {
            assert!((seen - wanted).abs() < 1e-12, "{seen}");
        }
        assert!(benjamini_hochberg(&[]).is_empty());
    }
}
