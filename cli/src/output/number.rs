//! Numbers as Go prints a float64 with its default verb, which is what an ORDER column shows. Pure.
//!
//! Called by `columns.rs` only: YAML and JSON print numbers their own way.

use serde_json::Number;

/// From this exponent on, Go writes `1e+06`.
const EXPONENT_MAX: i32 = 6;
/// Below this exponent, Go writes `1e-05`.
const EXPONENT_MIN: i32 = -4;

/// Shortest digits that round-trip; e-notation with at least two exponent digits outside [1e-4, 1e6).
pub(crate) fn go_float(number: &Number) -> String {
    let Some(value) = number.as_f64() else { return number.to_string() };
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if value != 0.0 && !(EXPONENT_MIN..EXPONENT_MAX).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_print_as_in_go() {
        let cases = [
            (0.0, "0"),
            (-5.0, "-5"),
            (10.5, "10.5"),
            (100.0, "100"),
            (100_000.0, "100000"),
            (123_456.0, "123456"),
            (999_999.0, "999999"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (10_000_000.0, "1e+07"),
            (6_543_215.321, "6.543215321e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
        ];
        for (value, expected) in cases {
            assert_eq!(go_float(&Number::from_f64(value).unwrap()), expected);
        }
        assert_eq!(go_float(&Number::from(1_000_000_u64)), "1e+06", "an integer in JSON is the same number");
    }
}
