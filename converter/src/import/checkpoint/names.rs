//! Names of tensors.

use super::{Entry, TensorInfo};

/// What wrappers put before every name: `DataParallel` and `DistributedDataParallel`, `torch.compile`.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// Takes away the prefixes of wrappers, where all names have them.
pub(super) fn tidy(entries: &mut [Entry]) {
    let shared = |entries: &[Entry]| {
        let wraps = |prefix: &&&str| {
            entries.iter().all(|e| e.info.name.strip_prefix(**prefix).is_some_and(|n| !n.is_empty()))
        };
        WRAPPERS.iter().find(wraps).map(|prefix| prefix.len())
    };
    while let Some(len) = shared(entries).filter(|_| !entries.is_empty()) {
        for entry in &mut *entries {
            entry.info.name.drain(..len);
        }
    }
}

/// The names that share the longest beginning or end with one that is not there.
pub(super) fn nearest(name: &str, infos: &[TensorInfo]) -> Vec<String> {
    let alike = |other: &str| {
        let front = name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        let back = name.bytes().rev().zip(other.bytes().rev()).take_while(|(a, b)| a == b).count();
        front.max(back)
    };
    let mut names: Vec<&str> = infos.iter().map(|info| info.name.as_str()).collect();
    names.sort_by_key(|other| std::cmp::Reverse(alike(other)));
    names.into_iter().map(str::to_string).collect()
}
