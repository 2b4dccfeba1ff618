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
    // ln m = 2 artanh((m-1)/(m+1)), and |s| <= 0.172 so ten terms reach 1e-17.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for odd in [21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        sum = sum * square + 1.0 / odd;
    }
    let exponent = exponent as f64;
    exponent * LN_2_HIGH + (2.0 * s + (2.0 * s * square * sum + exponent * LN_2_LOW))
}

/// The exponential function; 0 below -700 and the largest finite power of two near 700 above it.
pub(super) fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let x = x.min(700.0);
    let power = (x * std::f64::consts::LOG2_E).round();
    let rest = (x - power * LN_2_HIGH) - power * LN_2_LOW;
    let mut sum = 1.0;
    for n in [13.0, 12.0, 11.0, 10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0] {
        sum = 1.0 + sum * rest * (1.0 / n);
    }
    sum * f64::from_bits(((power as i64 + 1023) as u64) << 52)
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
