//! How much memory this process has resident, now and at its peak.
//!
//! These are called around inferences that may not allocate, so they read into the stack and allocate nothing. On
//! systems other than Linux and Android they answer `None`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

/// Bytes resident now: `VmRSS` of `/proc/self/status`. Not `statm`: newer kernels batch that counter per CPU, and it
/// lagged by up to 0.2 MB.
pub fn current_rss() -> Option<u64> {
    kib_field(File::open("/proc/self/status").ok()?, "VmRSS:")
}

/// The most bytes that were ever resident at once, since the process started or [`reset_peak`] last worked: `VmHWM`
/// of `/proc/self/status`.
pub fn peak_rss() -> Option<u64> {
    kib_field(File::open("/proc/self/status").ok()?, "VmHWM:")
}

/// Sets the peak back to what is resident now (5 into `/proc/self/clear_refs`); whether that worked. Some
/// containers and kernels forbid it; the peak then still counts from the start of the process.
pub fn reset_peak() -> bool {
    let file = OpenOptions::new().write(true).open("/proc/self/clear_refs");
    file.is_ok_and(|mut file| file.write_all(b"5").is_ok())
}

/// Bytes of a memory page.
pub fn page_size() -> u64 {
    #[cfg(unix)]
    {
        // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        u64::try_from(bytes).unwrap_or(4096)
    }
    #[cfg(not(unix))]
    {
        // Windows has 4 KiB pages on x86-64 and AArch64 alike.
        4096
    }
}

/// The value, in bytes, of the line `NAME value kB`. Reads piecewise: a line before it (the list of groups) may be
/// longer than any buffer one would put on the stack.
fn kib_field(mut source: impl Read, name: &str) -> Option<u64> {
    let mut chunk = [0u8; 1024];
    // The start of the current line: enough for a name and a number, what is longer is no line we look for.
    let mut line = [0u8; 64];
    let mut len = 0;
    loop {
        let read = source.read(&mut chunk).ok()?;
        if read == 0 {
            return None;
        }
        for &byte in &chunk[..read] {
            if byte != b'\n' {
                if len < line.len() {
                    line[len] = byte;
                    len += 1;
                }
                continue;
            }
            if let Some(value) =
                std::str::from_utf8(&line[..len]).ok().and_then(|text| text.strip_prefix(name))
            {
                return value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024);
            }
            len = 0;
        }
    }
}

/// Gives what the heap holds and nobody uses back to the system: planning leaves megabytes, and a run's peak would count them.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: glibc's own function; it touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_long_lines() {
        let groups = format!("Groups:\t{}\n", "1000 ".repeat(5_000));
        let text = format!("Name:\tedge\n{groups}VmPeak:\t   9 kB\nVmHWM:\t    4321 kB\nVmRSS:\t 1 kB\n");
        assert_eq!(kib_field(text.as_bytes(), "VmHWM:"), Some(4321 * 1024));
        assert_eq!(kib_field(text.as_bytes(), "VmRSS:"), Some(1024));
        assert_eq!(kib_field(text.as_bytes(), "VmSwap:"), None);
        assert_eq!(kib_field("VmHWM:\t x kB\n".as_bytes(), "VmHWM:"), None);
        assert_eq!(kib_field("VmHWM:\t 36028797018963968 kB\n".as_bytes(), "VmHWM:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn touched_memory_shows_in_the_peak() {
        const BYTES: usize = 64 << 20;
        assert!(page_size().is_power_of_two());
        let before = current_rss().unwrap();
        let touched = vec![1u8; BYTES];
        assert!(touched.iter().step_by(4096).all(|b| *b == 1));
        // Other tests run beside this one, so only the lower bound is certain.
        assert!(peak_rss().unwrap() >= BYTES as u64, "{before}");
        drop(touched);
        if reset_peak() {
            assert!(peak_rss().unwrap() > 0);
        }
    }
}
