//! How long something is to be good for, as requests say it. Pure.

use appliance_resources::Status;
use time::Duration;

use crate::api::respond::Refusal;

/// Less is over before it is used, with clocks a little apart.
const TTL_MIN: Duration = Duration::MINUTE;

/// The lifetime asked for, within bounds.
pub(super) fn lifetime(asked: Option<u64>, default: Duration, max: Duration) -> Result<Duration, Refusal> {
    let Some(seconds) = asked else { return Ok(default) };
    match i64::try_from(seconds).map(Duration::seconds) {
        Ok(lifetime) if (TTL_MIN..=max).contains(&lifetime) => Ok(lifetime),
        _ => {
            let (min, days) = (TTL_MIN.whole_seconds(), max.whole_days());
            let max = max.whole_seconds();
            let said = format!("ttlSeconds: {seconds} is not between {min} (1m) and {max} ({days}d)");
            Err(Status::bad_request(said).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_within_its_bounds_or_the_default() {
        let check = |asked| lifetime(asked, Duration::HOUR, Duration::DAY).map_err(|error| error.to_string());
        assert_eq!(check(None), Ok(Duration::HOUR));
        assert_eq!(check(Some(60)), Ok(Duration::MINUTE));
        assert_eq!(check(Some(86_400)), Ok(Duration::DAY));
        for odd in [0, 59, 86_401, u64::MAX] {
            assert_eq!(
                check(Some(odd)),
                Err(format!("ttlSeconds: {odd} is not between 60 (1m) and 86400 (1d)"))
            );
        }
    }
}
