//! Durations as people type them: `90s`, `1h30m`, `500ms`, `30d`. Pure.

use std::time::Duration;

/// Go's durations, as far as anybody uses them here, and days. `None` for anything else, nothing included.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u32 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, length) = UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        total = total.checked_add(Duration::from_millis(length).checked_mul(number)?)?;
        rest = &rest[unit.len()..];
    }
    (!total.is_zero()).then_some(total)
}

/// Milliseconds of each unit; the longer name of two that begin alike comes first.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A lifetime given to `flag`, in seconds.
pub(crate) fn whole_seconds(flag: &str, text: &str) -> Result<u64, String> {
    match parse(text).map(|duration| duration.as_secs()) {
        Some(seconds) if seconds > 0 => Ok(seconds),
        _ => Err(format!("{flag} '{text}' is not a duration; examples are 15m, 1h30m, 24h and 30d")),
    }
}

/// How long something is, as a person would say it: in one unit, never less than two of it beyond seconds.
pub(crate) fn words(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_durations_and_days() {
        let cases =
            [("10s", 10_000), ("1m", 60_000), ("1h30m", 5_400_000), ("500ms", 500), ("2d", 172_800_000)];
        for (text, milliseconds) in cases {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "0s", "1x", "99999999999s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_lifetime_is_at_least_a_second() {
        assert_eq!(whole_seconds("--ttl", "1h"), Ok(3_600));
        let refused = whole_seconds("--ttl", "500ms").unwrap_err();
        assert_eq!(refused, "--ttl '500ms' is not a duration; examples are 15m, 1h30m, 24h and 30d");
    }

    #[test]
    fn lengths_are_told_in_one_unit() {
        let cases = [(40, "40ms"), (1_900, "1s"), (119_000, "119s"), (120_000, "2m"), (7_200_000, "2h")];
        for (milliseconds, expected) in cases {
            assert_eq!(words(milliseconds), expected);
        }
        assert_eq!(words(90 * 86_400_000), "90d");
    }
}
