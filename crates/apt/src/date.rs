//! The dates of Release files: RFC 2822 with a zone that means UTC.
//!
//! Seconds since 1970 as `i64`; no clock is read here.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Reads `Sat, 09 Sep 2023 10:00:00 UTC`. apt writes and accepts no other zone than UTC.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let rest = text.trim().split_once(", ").map_or(text.trim(), |(_, rest)| rest);
    let words: Vec<_> = rest.split_ascii_whitespace().collect();
    let [day, month, year, time, zone] = words[..] else { return None };
    if !matches!(zone, "UTC" | "GMT" | "Z" | "UT" | "+0000" | "-0000") {
        return None;
    }
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|m| *m == month)?;
    let clock: Vec<_> = time.split(':').collect();
    let [hour, minute, second] = clock[..] else { return None };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse::<i16>().ok() } else { None }
    };
    let small = |text: &str| i8::try_from(number(text)?).ok();
    let month = i8::try_from(month + 1).ok()?;
    let date = DateTime::new(
        number(year)?,
        month,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second)?,
        0,
    );
    let zoned = date.ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_second())
}

/// `2023-09-09 10:00:00 UTC`, for messages.
pub(crate) fn show(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("second {seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_date_u_reads_them() {
        // date -u -d '…' +%s
        let cases = [
            ("Sat, 11 Jul 2026 10:16:37 UTC", Some(1783764997)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu,  1 Jan 2015 00:00:00 +0000", Some(1420070400)),
            ("29 Feb 2024 23:59:59 Z", Some(1709251199)),
            ("Sat, 11 Jul 2026 10:16:37 CEST", None),
            ("Sat, 31 Feb 2026 10:16:37 UTC", None),
            ("Sat, 11 Jul 2026 25:16:37 UTC", None),
            ("Sat, 11 Jul 2026 -1:16:37 UTC", None),
            ("2026-07-11", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(show(1783764997), "2026-07-11 10:16:37 UTC");
    }
}
