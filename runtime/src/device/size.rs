//! Memory sizes as people write them: `512MB`, `1.5GiB`, `65536`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
///
/// Parsed from a whole number of bytes (`65536`, `65536B`) or a decimal number with a unit: powers of 1000 (`kB`,
/// `MB`, `GB`, `TB`) or of 1024 (`KiB`, `MiB`, `GiB`, `TiB`). Case does not matter, spaces may stand before the
/// unit, and a fraction of a byte is dropped, so that a budget is never rounded up.
///
/// ```
/// use edge_runtime::device::ByteSize;
/// let budget: ByteSize = "1.5GB".parse()?;
/// assert_eq!(budget.0, 1_500_000_000);
/// assert_eq!(budget.to_string(), "1.5 GB (1,500,000,000 bytes)");
/// # Ok::<(), edge_runtime::device::SizeError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Why a text is not a memory size. The message quotes the text and says what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "memory size `{text}` {reason}; give bytes (65536) or a number with kB, MB, GB, TB (powers of 1000) or KiB, \
     MiB, GiB, TiB (powers of 1024), such as 512MB"
)]
pub struct SizeError {
    text: String,
    reason: &'static str,
}

const UNITS: [(&str, u64); 8] = [
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

/// Characters of a refused text that its error repeats: enough to recognise it, not enough to flood a log.
const QUOTED: usize = 40;

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        parse(text.trim()).map(ByteSize).map_err(|reason| {
            let mut quoted: String = text.chars().take(QUOTED).collect();
            if quoted.len() < text.len() {
                quoted.push_str("...");
            }
            SizeError { text: quoted, reason }
        })
    }
}

fn parse(text: &str) -> Result<u64, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.starts_with('-') {
        return Err("is negative");
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim_start());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err("does not start with a number");
    }
    let scale = match unit {
        "" | "B" | "b" if number.contains('.') => return Err("is a fraction of a byte"),
        "" | "B" | "b" => 1,
        _ => match UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
            Some((_, scale)) => *scale,
            None => return Err("has an unknown unit"),
        },
    };
    let whole_bytes = digits(whole).and_then(|n| n.checked_mul(scale)).ok_or("is above 2^64 - 1 bytes")?;
    whole_bytes.checked_add(fraction_of(fraction, scale)).ok_or("is above 2^64 - 1 bytes")
}

/// Value of a run of decimal digits, `None` when it overflows. The empty run is 0, as in `.5GB`.
fn digits(text: &str) -> Option<u64> {
    text.bytes().try_fold(0u64, |n, d| n.checked_mul(10)?.checked_add(u64::from(d - b'0')))
}

/// `0.fraction * scale`, rounded down. 25 digits: the most whose product with the largest unit stays below 2^128;
/// what follows them is worth less than 10^-12 of a byte.
fn fraction_of(fraction: &str, scale: u64) -> u64 {
    let (mut numerator, mut denominator) = (0u128, 1u128);
    for d in fraction.bytes().take(25) {
        numerator = numerator * 10 + u128::from(d - b'0');
        denominator *= 10;
    }
    // numerator < denominator, so the quotient is below scale and fits.
    (numerator * u128::from(scale) / denominator) as u64
}

impl fmt::Display for ByteSize {
    /// The shortest exact form with at most two decimals, then all bytes: `512 MiB (536,870,912 bytes)`. When no
    /// unit is that exact, two decimals marked as rounded: `~123.46 MB (123,456,789 bytes)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        if bytes < 1_000 {
            return write!(f, "{bytes} byte{}", if bytes == 1 { "" } else { "s" });
        }
        let exact = UNITS.iter().filter_map(|(name, scale)| {
            let hundredths = u128::from(bytes) * 100;
            let scale = u128::from(*scale);
            // From 10,000 units on a larger unit is easier to read, even rounded.
            ((100..1_000_000).contains(&(hundredths / scale)) && hundredths % scale == 0)
                .then(|| format!("{} {name}", decimals(hundredths / scale)))
        });
        let form = exact.min_by_key(String::len).unwrap_or_else(|| {
            let (name, scale) =
                UNITS.iter().rev().find(|(n, s)| *s <= bytes && !n.contains('i')).unwrap_or(&UNITS[0]);
            let (hundredths, scale) = (u128::from(bytes) * 100, u128::from(*scale));
            let rounded = if hundredths % scale == 0 { "" } else { "~" };
            format!("{rounded}{} {name}", decimals((hundredths + scale / 2) / scale))
        });
        write!(f, "{form} ({} bytes)", grouped(bytes))
    }
}

/// `150` as `1.5`, `200` as `2`, `1205` as `12.05`.
fn decimals(hundredths: u128) -> String {
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::ByteSize;

    fn size(text: &str) -> u64 {
        text.parse::<ByteSize>().unwrap().0
    }

    #[test]
    fn units_in_any_case_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("0MB", 0),
            ("65536", 65_536),
            ("12b", 12),
            ("512MB", 512_000_000),
            ("512mb", 512_000_000),
            ("512MiB", 512 << 20),
            ("512 mib", 512 << 20),
            (" 1.5GB ", 1_500_000_000),
            (".5GiB", 1 << 29),
            ("2.GB", 2_000_000_000),
            ("3kB", 3_000),
            ("3KB", 3_000),
            ("3KiB", 3_072),
            ("2TB", 2_000_000_000_000),
            ("1TiB", 1 << 40),
            ("0.1KiB", 102),
            ("1.000000000000000000000000000009TiB", 1 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_text_and_the_reason() {
        for (text, reason) in [
            ("banana", "does not start with a number"),
            ("", "is empty"),
            ("  ", "is empty"),
            ("-1MB", "is negative"),
            ("NaN", "does not start with a number"),
            ("inf", "does not start with a number"),
            ("+5MB", "does not start with a number"),
            ("1.2.3MB", "does not start with a number"),
            (".", "does not start with a number"),
            (".GB", "does not start with a number"),
            ("1e9", "has an unknown unit"),
            ("512M", "has an unknown unit"),
            ("512MB!", "has an unknown unit"),
            ("1,000", "has an unknown unit"),
            ("٣MB", "does not start with a number"),
            ("1.5", "is a fraction of a byte"),
            ("18446744073709551616", "is above 2^64 - 1 bytes"),
            ("99999999TB", "is above 2^64 - 1 bytes"),
            ("16777216.5TiB", "is above 2^64 - 1 bytes"),
        ] {
            let message = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("memory size `{text}` {reason}; give bytes")), "{message}");
        }
        let long = "x".repeat(10_000).parse::<ByteSize>().unwrap_err().to_string();
        assert!(long.len() < 300, "{} bytes", long.len());
    }

    #[test]
    fn display_is_exact_or_marked() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (999, "999 bytes"),
            (1_000, "1 kB (1,000 bytes)"),
            (1_024, "1 KiB (1,024 bytes)"),
            (65_536, "64 KiB (65,536 bytes)"),
            (512_000_000, "512 MB (512,000,000 bytes)"),
            (512 << 20, "512 MiB (536,870,912 bytes)"),
            (1_500_000_000, "1.5 GB (1,500,000,000 bytes)"),
            (24_882_929_664, "~24.88 GB (24,882,929,664 bytes)"),
            (20_000_000_000_000_000, "20000 TB (20,000,000,000,000,000 bytes)"),
            (123_456_789, "~123.46 MB (123,456,789 bytes)"),
            (u64::MAX, "~18446744.07 TB (18,446,744,073,709,551,615 bytes)"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    #[test]
    fn exact_displays_parse_back() {
        let mut n = 1u64;
        for i in 0..2_000u64 {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bytes = (n >> (20 + i % 40)) * [1, 1_000, 1 << 20][(i % 3) as usize];
            let text = ByteSize(bytes).to_string();
            if bytes >= 1_000 && !text.starts_with('~') {
                let (form, _) = text.split_once(" (").unwrap();
                assert_eq!(size(form), bytes, "{text}");
            }
        }
    }
}
