//! A time as C's `strftime` writes it, for templates that ask what day it is.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Year, month (1 to 12) and day of so many days after 1970-01-01, in the Gregorian calendar: 400 years have 146,097 days, and a year that
/// begins in March ends with its leap day.
fn date(days: i64) -> (i64, usize, i64) {
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 153 days in every five.
    let month = (5 * day + 2) / 153;
    let (in_month, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + i64::from(month <= 2), month as usize, in_month)
}

/// Seconds since 1970 in a format of `strftime`, in the C locale and UTC. What is not known stands as it is.
pub(super) fn strftime(format: &str, seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let weekday = DAYS[(days + 4).rem_euclid(7) as usize];
    let name = MONTHS[month - 1];
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    let noon = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => text += &year.to_string(),
            Some('y') => text += &format!("{:02}", year.rem_euclid(100)),
            Some('m') => text += &format!("{month:02}"),
            Some('B') => text += name,
            Some('b') => text += &name[..3],
            Some('d') => text += &format!("{day:02}"),
            Some('e') => text += &format!("{day:2}"),
            Some('j') => {
                let before: i64 = days_of(year)[..month - 1].iter().sum();
                text += &format!("{:03}", before + day);
            }
            Some('A') => text += weekday,
            Some('a') => text += &weekday[..3],
            Some('H') => text += &format!("{hour:02}"),
            Some('I') => text += &format!("{noon:02}"),
            Some('M') => text += &format!("{minute:02}"),
            Some('S') => text += &format!("{:02}", second % 60),
            Some('p') => text += if hour < 12 { "AM" } else { "PM" },
            Some('F') => text += &format!("{year}-{month:02}-{day:02}"),
            Some('T') => text += &format!("{hour:02}:{minute:02}:{:02}", second % 60),
            Some('Z') => text += "UTC",
            Some('z') => text += "+0000",
            Some('%') => text.push('%'),
            Some(other) => text.extend(['%', other]),
            None => text.push('%'),
        }
    }
    text
}

/// Days of the months of a year.
fn days_of(year: i64) -> [i64; 12] {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

#[cfg(test)]
mod tests {
    use super::strftime;

    /// What Python's `datetime.fromtimestamp(t, timezone.utc).strftime` gives.
    #[test]
    fn times_are_those_of_the_reference() {
        let all = "%Y-%m-%d %H:%M:%S %d %b %Y %B %A %a %y %j %I %p %e %%";
        assert_eq!(
            strftime(all, 0),
            "1970-01-01 00:00:00 01 Jan 1970 January Thursday Thu 70 001 12 AM  1 %"
        );
        assert_eq!(
            strftime(all, 1_709_210_096),
            "2024-02-29 12:34:56 29 Feb 2024 February Thursday Thu 24 060 12 PM 29 %"
        );
        assert_eq!(
            strftime(all, 4_102_444_799),
            "2099-12-31 23:59:59 31 Dec 2099 December Thursday Thu 99 365 11 PM 31 %"
        );
        assert_eq!(strftime("%F %T%", 951_868_800), "2000-03-01 00:00:00%");
        assert_eq!(strftime("%Q", 0), "%Q");
    }
}
