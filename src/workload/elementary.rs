//! Logarithm and power with the same bits on every machine.
//!
//! The standard library leaves the last bits of `ln` and `powf` to the platform, and one bit is enough to make
//! another stream out of the same seed. These use only IEEE 754 additions, multiplications and divisions, whose
//! results are fixed. Relative error below 1e-14, which is far finer than what they are used for.

const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// Natural logarithm of a positive, normal number.
pub(super) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m-1)/(m+1)), and |s| <= 0.172 so ten terms reach 1e-17. Even and odd terms apart, which a
    // processor works out side by side.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let fourth = square * square;
    let even = polynomial([1.0 / 3.0, 1.0 / 7.0, 1.0 / 11.0, 1.0 / 15.0, 1.0 / 19.0], fourth);
    let odd = polynomial([1.0 / 5.0, 1.0 / 9.0, 1.0 / 13.0, 1.0 / 17.0, 1.0 / 21.0], fourth);
    let sum = even + square * odd;
    let exponent = exponent as f64;
    exponent * LN_2_HIGH + (2.0 * s + (2.0 * s * square * sum + exponent * LN_2_LOW))
}

/// The exponential function; 0 below -700 and the largest finite power of two near 700 above it.
pub(super) fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let x = x.min(700.0);
    // Adding and taking away 1.5 * 2^52 rounds to a whole number.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let power = (x * std::f64::consts::LOG2_E + ROUND) - ROUND;
    let rest = (x - power * LN_2_HIGH) - power * LN_2_LOW;
    // Taylor's series up to rest^13 / 13!, |rest| <= 0.347.
    let square = rest * rest;
    let even = polynomial(
        [1.0, 1.0 / 2.0, 1.0 / 24.0, 1.0 / 720.0, 1.0 / 40_320.0, 1.0 / 3_628_800.0, 1.0 / 479_001_600.0],
        square,
    );
    let odd = polynomial(
        [1.0, 1.0 / 6.0, 1.0 / 120.0, 1.0 / 5_040.0, 1.0 / 362_880.0, 1.0 / 39_916_800.0, 1.0 / 6_227_020_800.0],
        square,
    );
    (even + rest * odd) * f64::from_bits(((power as i64 + 1023) as u64) << 52)
}

/// The polynomial with these coefficients, the constant first (Horner).
#[inline]
fn polynomial<const N: usize>(coefficients: [f64; N], x: f64) -> f64 {
    // Starts with the last coefficient, not with 0: the same bits, and one step less to wait for.
    coefficients.iter().rev().copied().reduce(|sum, coefficient| sum * x + coefficient).unwrap_or_default()
}

/// `base` to the power `exponent`, for a positive, normal base.
pub(super) fn pow(base: f64, exponent: f64) -> f64 {
    exp(exponent * ln(base))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(ours: f64, std: f64) -> bool {
        (ours - std).abs() <= 1e-13 * std.abs().max(1e-3)
    }

    #[test]
    fn they_agree_with_the_standard_library() {
        for step in 1..20_000 {
            let x = f64::from(step) * 0.037;
            assert!(close(ln(x), x.ln()), "ln {x}");
            let y = f64::from(step - 10_000) * 0.01;
            assert!(close(exp(y) / y.exp(), 1.0), "exp {y}");
            assert!((pow(x, -0.99) / x.powf(-0.99) - 1.0).abs() < 1e-13, "pow {x}");
        }
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(close(ln(2f64.powi(-53)), 2f64.powi(-53).ln()));
    }
}
