//! How values are written in JSON (OData JSON Format 4.01, section 7.1).

use serde_json::Value;
use time::OffsetDateTime;

/// The moment that stands for "never" in Intune's entities.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// A moment in milliseconds since 1970, as `DateTimeOffset`.
#[must_use]
pub fn time(millis: i64) -> Value {
    let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000) else { return Value::Null };
    let (date, clock) = (at.date(), at.time());
    let fraction = if clock.millisecond() == 0 { String::new() } else { format!(".{:03}", clock.millisecond()) };
    Value::String(format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    ))
}

/// The same, or null.
#[must_use]
pub fn time_or_null(millis: Option<i64>) -> Value {
    millis.map_or(Value::Null, time)
}

/// The same, or the moment that stands for "never".
#[must_use]
pub fn time_or_never(millis: Option<i64>) -> Value {
    millis.map_or_else(|| NEVER.into(), time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(time(1_767_514_502_000), "2026-01-04T08:15:02Z");
        assert_eq!(time(1_767_514_502_007), "2026-01-04T08:15:02.007Z");
        assert_eq!(time_or_null(None), Value::Null);
        assert_eq!(time_or_never(None), NEVER);
        assert_eq!(super::super::filter::moment("2026-01-04T08:15:02.007Z"), Some(1_767_514_502_007));
    }
}
