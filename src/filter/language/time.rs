//! Instants, dates and times of day in ISO 8601, as variables and as texts that are compared with columns.

use std::fmt::{self, Display, Formatter};

const SECONDS_PER_DAY: i64 = 86_400;
const NANOSECONDS_PER_SECOND: i64 = 1_000_000_000;

/// A date and a time of day, with or without an offset from UTC. Without one it is taken for UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterTimestamp {
    /// Since 1970-01-01T00:00:00 on the clock that it was read from.
    local_seconds: i64,
    nanoseconds: u32,
    offset_seconds: Option<i32>,
}

/// A date of the Gregorian calendar, from year 1 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterDate {
    /// Since 1970-01-01.
    days: i32,
}

/// A time of day, to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterTime {
    /// Since midnight.
    nanoseconds: i64,
}

impl FilterTimestamp {
    /// `2024-01-31T12:00:00.5+01:00`; `T` may be a blank, seconds, fraction and offset may be absent, and so may
    /// the whole time, which is midnight then.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("expected a time such as 2024-01-31T12:00:00Z, found {:?}", super::error::cut(text, 40))
        };
        let (date, time) = match text.find(['T', 't', ' ']) {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => (text, "00:00"),
        };
        let days = read_days(date).ok_or_else(wrong)?;
        let (time, offset_seconds) = split_offset(time).ok_or_else(wrong)?;
        let of_day = read_time(time).ok_or_else(wrong)?;
        let local_seconds = i64::from(days) * SECONDS_PER_DAY + of_day / NANOSECONDS_PER_SECOND;
        let nanoseconds = u32::try_from(of_day % NANOSECONDS_PER_SECOND).map_err(|_| wrong())?;
        Ok(Self { local_seconds, nanoseconds, offset_seconds })
    }

    /// Seconds since 1970-01-01T00:00:00 UTC, and nanoseconds after them, of which a second and more are cut.
    pub fn from_unix(seconds: i64, nanoseconds: u32) -> Self {
        // What the years 1 to 9999 span, so that it can be written.
        let local_seconds = seconds.clamp(-62_135_596_800, 253_402_300_799);
        Self { local_seconds, nanoseconds: nanoseconds.min(999_999_999), offset_seconds: Some(0) }
    }

    /// Nanoseconds since 1970-01-01T00:00:00 UTC.
    pub(crate) fn unix_nanoseconds(self) -> i128 {
        let seconds = self.local_seconds - i64::from(self.offset_seconds.unwrap_or(0));
        i128::from(seconds) * i128::from(NANOSECONDS_PER_SECOND) + i128::from(self.nanoseconds)
    }
}

impl FilterDate {
    /// `2024-01-31`.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let days = read_days(text);
        days.map(|days| Self { days }).ok_or_else(|| {
            format!("expected a date such as 2024-01-31, found {:?}", super::error::cut(text, 40))
        })
    }

    /// Days since 1970-01-01; those beyond the years 1 to 9999 become the nearest within.
    pub fn from_unix_days(days: i32) -> Self {
        Self { days: days.clamp(-719_162, 2_932_896) }
    }

    /// Nanoseconds between 1970-01-01 and the start of the day, in UTC.
    pub(crate) fn unix_nanoseconds(self) -> i128 {
        i128::from(self.days) * i128::from(SECONDS_PER_DAY) * i128::from(NANOSECONDS_PER_SECOND)
    }
}

impl FilterTime {
    /// `12:30`, `12:30:00` or `12:30:00.5`; no offset, which means nothing without a date.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let nanoseconds = read_time(text);
        nanoseconds.map(|nanoseconds| Self { nanoseconds }).ok_or_else(|| {
            let found = super::error::cut(text, 40);
            format!("expected a time of day such as 12:30:00 without an offset, found {found:?}")
        })
    }

    /// Nanoseconds since midnight; a day and more become the last nanosecond of the day.
    pub fn from_nanoseconds(nanoseconds: u64) -> Self {
        let last = SECONDS_PER_DAY * NANOSECONDS_PER_SECOND - 1;
        Self { nanoseconds: i64::try_from(nanoseconds).unwrap_or(last).min(last) }
    }

    /// Nanoseconds since midnight.
    pub(crate) fn nanoseconds(self) -> i128 {
        i128::from(self.nanoseconds)
    }
}

impl Display for FilterTimestamp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let days = self.local_seconds.div_euclid(SECONDS_PER_DAY);
        let of_day = self.local_seconds.rem_euclid(SECONDS_PER_DAY);
        write_days(f, days)?;
        f.write_str("T")?;
        write_time(f, of_day * NANOSECONDS_PER_SECOND + i64::from(self.nanoseconds))?;
        let Some(offset) = self.offset_seconds else { return Ok(()) };
        let (sign, offset) = (if offset < 0 { '-' } else { '+' }, offset.abs());
        write!(f, "{sign}{:02}:{:02}", offset / 3600, offset / 60 % 60)?;
        if offset % 60 == 0 { Ok(()) } else { write!(f, ":{:02}", offset % 60) }
    }
}

impl Display for FilterDate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_days(f, i64::from(self.days))
    }
}

impl Display for FilterTime {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_time(f, self.nanoseconds)
    }
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Days from 1970-01-01 to `YYYY-MM-DD`.
fn read_days(text: &str) -> Option<i32> {
    let mut parts = text.split('-');
    let (year, month, day) =
        (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return None,
    };
    if parts.next().is_some() || year == 0 || !(1..=last).contains(&day) {
        return None;
    }
    // Years that start in March, so that the leap day is the last of a year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (century, year) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    let of_century = year * 365 + year / 4 - year / 100 + of_year;
    i32::try_from(century * 146_097 + of_century - 719_468).ok()
}

fn write_days(f: &mut Formatter<'_>, days: i64) -> fmt::Result {
    let days = days + 719_468;
    let (century, of_century) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_century - of_century / 1460 + of_century / 36_524 - of_century / 146_096) / 365;
    let of_year = of_century - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, is_next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    write!(f, "{:04}-{month:02}-{day:02}", century * 400 + year + is_next)
}

/// Nanoseconds from midnight to `HH:MM[:SS[.fraction]]`.
fn read_time(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hours, minutes) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let (seconds, fraction) = match parts.next() {
        None => (0, 0),
        Some(seconds) => match seconds.split_once('.') {
            None => (digits(seconds, 2)?, 0),
            Some((seconds, fraction)) if (1..=9).contains(&fraction.len()) => {
                let value = digits(fraction, fraction.len())?;
                let missing = u32::try_from(9 - fraction.len()).ok()?;
                (digits(seconds, 2)?, value * 10i64.pow(missing))
            }
            Some(_) => return None,
        },
    };
    if parts.next().is_some() || hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    Some(((hours * 60 + minutes) * 60 + seconds) * NANOSECONDS_PER_SECOND + fraction)
}

fn write_time(f: &mut Formatter<'_>, of_day: i64) -> fmt::Result {
    let (seconds, fraction) = (of_day / NANOSECONDS_PER_SECOND, of_day % NANOSECONDS_PER_SECOND);
    write!(f, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
    match fraction {
        0 => Ok(()),
        fraction if fraction % 1000 == 0 => write!(f, ".{:06}", fraction / 1000),
        fraction => write!(f, ".{fraction:09}"),
    }
}

/// Takes `Z`, `+HH`, `+HHMM`, `+HH:MM` or `+HH:MM:SS` off the end of a time. `None` for an offset that is none.
fn split_offset(time: &str) -> Option<(&str, Option<i32>)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, Some(0)));
    }
    let Some(at) = time.find(['+', '-']) else { return Some((time, None)) };
    let sign = if time[at..].starts_with('-') { -1 } else { 1 };
    let mut offset = time[at + 1..].to_owned();
    if offset.len() == 4 && !offset.contains(':') && offset.is_char_boundary(2) {
        offset.insert(2, ':');
    }
    if offset.len() == 2 {
        offset.push_str(":00");
    }
    let nanoseconds = read_time(&offset)?;
    if nanoseconds % NANOSECONDS_PER_SECOND != 0 {
        return None;
    }
    Some((&time[..at], Some(sign * i32::try_from(nanoseconds / NANOSECONDS_PER_SECOND).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, nanoseconds, written) in [
            ("1970-01-01T00:00:00", 0, "1970-01-01T00:00:00"),
            ("1970-01-02", 86_400_000_000_000, "1970-01-02T00:00:00"),
            ("2024-02-29 12:30", 1_709_209_800_000_000_000, "2024-02-29T12:30:00"),
            (
                "2024-01-02T03:04:05.000006+00:00",
                1_704_164_645_000_006_000,
                "2024-01-02T03:04:05.000006+00:00",
            ),
            ("2024-01-02T03:04:05.5Z", 1_704_164_645_500_000_000, "2024-01-02T03:04:05.500000+00:00"),
            ("2024-01-02T03:04:05-0130", 1_704_170_045_000_000_000, "2024-01-02T03:04:05-01:30"),
            ("1969-12-31T23:59:59.999999999+00", -1, "1969-12-31T23:59:59.999999999+00:00"),
            ("0001-01-01T00:00", -62_135_596_800_000_000_000, "0001-01-01T00:00:00"),
            ("9999-12-31T23:59:59", 253_402_300_799_000_000_000, "9999-12-31T23:59:59"),
        ] {
            let read = FilterTimestamp::read(text).unwrap();
            assert_eq!(read.unix_nanoseconds(), nanoseconds, "{text}");
            assert_eq!(read.to_string(), written);
            assert_eq!(FilterTimestamp::read(written).unwrap(), read);
        }
        assert_eq!(FilterTime::read("12:30:00.5").unwrap().to_string(), "12:30:00.500000");
    }

    #[test]
    fn every_day_is_itself() {
        for days in (-719_162..=2_932_896).step_by(13) {
            let date = FilterDate::from_unix_days(days);
            assert_eq!(FilterDate::read(&date.to_string()).unwrap(), date, "{days}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "x",
            "2024",
            "2024-1-1",
            "2024-02-30",
            "2023-02-29",
            "2024-13-01",
            "2024-00-01",
            "0000-01-01",
            "2024-01-01T24:00",
            "2024-01-01T12:60",
            "2024-01-01T12:00:60",
            "2024-01-01T12",
            "2024-01-01T12:00:",
            "2024-01-01T12:00:00.",
            "2024-01-01T12:00:00.1234567891",
            "2024-01-01T12:00+25:00",
            "2024-01-01T",
            "2024-01-01T12:00é",
            "2024-01-01T12:00+é1",
            "2024-01-01T12:00+01:00:00.5",
            "+024-01-01",
            "٢٠٢٤-01-01",
        ] {
            assert!(FilterTimestamp::read(text).is_err(), "{text}");
        }
        assert!(FilterDate::read("2024-01-01T00:00").is_err());
        assert!(FilterTime::read("12:00Z").is_err());
        assert!(FilterTimestamp::read(&"9".repeat(1000)).unwrap_err().len() < 200);
    }
}
