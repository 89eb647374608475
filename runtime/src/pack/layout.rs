//! Where things lie in the file. The writer places by these functions and the reader checks with the same ones.
//!
//! Everything follows from the header's end, the order of the blobs and their lengths, so a header that says
//! anything else is refused: nothing overlaps, and no byte of the file is unaccounted for.
#![forbid(unsafe_code)]
use crate::sort;

use super::{Blob, BlobId, Header, PackError, Section, owner::owner_of};

/// Most bytes of a header.
pub const MAX_HEADER: u64 = 64 << 20;

/// Blobs start at multiples of a cache line, which is also the widest vector register.
pub const BLOB_ALIGN: u64 = 64;

/// Sections start at multiples of the smallest page, so that a mapping's pages hold one section each...
const SECTION_ALIGN: u64 = 4 << 10;
/// ...but for small ones, beside which that is not little: neighbours share a page...
const SMALL_SECTION: u64 = 64 << 10;
/// ...and large ones at multiples of the largest common page (arm64 with 64 KiB pages).
const LARGE_SECTION_ALIGN: u64 = 64 << 10;
/// From this many bytes on, 64 KiB of alignment is small against the section.
const LARGE_SECTION: u64 = 1 << 20;

/// The largest position that a file can have on every system.
const MAX_FILE: u64 = i64::MAX as u64;

/// The alignment of a section of `len` bytes.
pub fn section_align(len: u64) -> u64 {
    match len {
        LARGE_SECTION.. => LARGE_SECTION_ALIGN,
        SMALL_SECTION.. => SECTION_ALIGN,
        _ => BLOB_ALIGN,
    }
}

fn align_up(at: u64, align: u64) -> Option<u64> {
    at.checked_next_multiple_of(align).filter(|&at| at <= MAX_FILE)
}

fn end_of(offset: u64, len: u64, what: impl FnOnce() -> String) -> Result<u64, PackError> {
    let end = offset.checked_add(len).filter(|&end| end <= MAX_FILE);
    end.ok_or_else(|| PackError::Overflow { what: what(), offset, len })
}

/// Gives every blob its offset and makes the table of sections. `order` has the ids of each section's blobs;
/// sections without bytes are left out. Blobs without bytes get offset 0.
pub(super) fn place(
    header_end: u64,
    order: &[Vec<BlobId>],
    blobs: &mut [Blob],
) -> Result<Vec<Section>, PackError> {
    let mut sections = Vec::new();
    let mut free = header_end;
    for ids in order {
        let mut len = 0;
        for &id in ids {
            let blob = &mut blobs[id as usize];
            // First relative to the section, whose place depends on its length.
            blob.offset = 0;
            if blob.len > 0 {
                let overflow = PackError::Overflow { what: format!("blob {id}"), offset: len, len: blob.len };
                let start = align_up(len, BLOB_ALIGN).ok_or(overflow)?;
                blob.offset = start;
                len = end_of(start, blob.len, || format!("blob {id}"))?;
            }
        }
        if len == 0 {
            continue;
        }
        let what = || format!("section {}", sections.len());
        let overflow = PackError::Overflow { what: what(), offset: free, len };
        let offset = align_up(free, section_align(len)).ok_or(overflow)?;
        free = end_of(offset, len, what)?;
        for &id in ids {
            let blob = &mut blobs[id as usize];
            if blob.len > 0 {
                blob.offset += offset;
            }
        }
        sections.push(Section { offset, len });
    }
    Ok(sections)
}

/// Ids of the blobs that have bytes, in file order.
pub(super) fn file_order(blobs: &[Blob]) -> Vec<BlobId> {
    let mut ids: Vec<BlobId> = (0..blobs.len() as BlobId).filter(|&id| blobs[id as usize].len > 0).collect();
    sort_by_offset(blobs, &mut ids);
    ids
}

/// Sorts ids of blobs into file order.
pub(super) fn sort_by_offset(blobs: &[Blob], ids: &mut [BlobId]) {
    sort::by_key(ids, |&id| (blobs[id as usize].offset, id));
}

/// Position just past the pack's last byte: the file's length, when it is whole.
pub(super) fn full_len(header: &Header, header_end: u64) -> u64 {
    header.sections.last().map_or(header_end, |s| s.offset + s.len)
}

/// Checks that sections and blobs lie where [`place`] puts them.
pub(super) fn check_places(header: &Header, header_end: u64) -> Result<(), PackError> {
    let blob_error = |id: BlobId, expected: u64| PackError::BlobStart {
        blob: id,
        owner: owner_of(header, id),
        expected,
        actual: header.blobs[id as usize].offset,
    };
    for (id, blob) in header.blobs.iter().enumerate() {
        if blob.len == 0 && blob.offset != 0 {
            return Err(blob_error(id as BlobId, 0));
        }
    }
    let order = file_order(&header.blobs);
    let mut next = order.iter().copied().peekable();
    let mut free = header_end;
    for (i, section) in header.sections.iter().enumerate() {
        if section.len == 0 {
            return Err(PackError::EmptySection { section: i });
        }
        let what = || format!("section {i}");
        let overflow = PackError::Overflow { what: what(), offset: free, len: section.len };
        let expected = align_up(free, section_align(section.len)).ok_or(overflow)?;
        if section.offset != expected {
            return Err(PackError::SectionStart { section: i, expected, actual: section.offset });
        }
        free = end_of(section.offset, section.len, what)?;

        let mut used = section.offset;
        while let Some(id) = next.next_if(|&id| header.blobs[id as usize].offset < free) {
            let blob = &header.blobs[id as usize];
            let expected = used.next_multiple_of(BLOB_ALIGN); // used <= free <= MAX_FILE: no overflow
            if blob.offset != expected {
                return Err(blob_error(id, expected));
            }
            used = end_of(blob.offset, blob.len, || format!("blob {id}"))?;
            if used > free {
                return Err(outside(header, id));
            }
        }
        if used != free {
            return Err(PackError::SectionEnd { section: i, expected: used, actual: free });
        }
    }
    match next.next() {
        Some(id) => Err(outside(header, id)),
        None => Ok(()),
    }
}

fn outside(header: &Header, id: BlobId) -> PackError {
    let blob = header.blobs[id as usize];
    PackError::BlobOutside { blob: id, owner: owner_of(header, id), offset: blob.offset, len: blob.len }
}
