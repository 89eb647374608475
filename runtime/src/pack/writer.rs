//! Writes a pack: places the blobs, hashes them, makes the header, and gives the file its name when it is whole.
//! The same contents give the same bytes.
#![forbid(unsafe_code)]

use super::check::check;
use super::file::io_error;
use super::layout::{MAX_HEADER, full_len, place};
use super::packed::packed;
use super::preamble::{PREAMBLE, Preamble, hash128};
use super::scan::{MAX_DECODED, decoded_bound};
use super::temporary::Temporary;
use super::{Blob, BlobId, BlobSource, Header, PackError};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes written between two looks at the flag that stops the writer.
const CHUNK: usize = 1 << 20;

/// What is to be written.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The header. The writer fills `blobs`, `sections`, and each rung's `end` and `bytes`; what they hold before does
    /// not matter.
    pub header: Header,
    /// The blobs of each section, in file order: what the first rung needs, what the second adds, ..., golden data
    /// last. Each id from 0 to the greatest stands in exactly one place. Sections without bytes are left out.
    pub sections: Vec<Vec<BlobId>>,
    /// One entry a rung: the blobs that it reads.
    pub needs: Vec<Vec<BlobId>>,
    /// The oldest runtime that can read the header: its operations, its kinds of pre-processing.
    pub min_runtime: u32,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The header as it stands in the file.
    pub header: Header,
    /// Position just past the header.
    pub header_end: u64,
    /// Bytes of the file.
    pub file_len: u64,
    /// Bytes of the file that are neither preamble, header nor blob.
    pub padding: u64,
}

/// Writes a pack to `path`. A file that is there stays whole until the new one is, and is then replaced at once.
/// Whatever goes wrong, nothing is left behind; what a killed process left, the next `write` to the same path removes.
/// `cancel` is looked at about once a MiB.
pub fn write(
    path: impl AsRef<Path>,
    contents: Contents,
    source: &dyn BlobSource,
    cancel: &AtomicBool,
) -> Result<Written, PackError> {
    let min_runtime = contents.min_runtime;
    let (header, stored, order) = finish(contents, source, cancel)?;
    let Stored { bytes: text, text_len } = stored;
    let header_end = (PREAMBLE + text.len()) as u64;
    let file_len = full_len(&header, header_end);
    let temporary = Temporary::new(path.as_ref())?;
    let preamble = Preamble::new(min_runtime, &text, text_len);
    let mut out = io::BufWriter::with_capacity(CHUNK, temporary.file());
    let emitted = emit(&mut out, &preamble, &text, &header, &order, source, cancel);
    // Taken apart without a second attempt to write what is still in the buffer.
    let (_, _) = out.into_parts();
    match emitted {
        Ok(()) => {}
        Err(Stopped::Flag) => return Err(PackError::Cancelled),
        Err(Stopped::Blob(blob)) => return Err(PackError::NoSuchBlob { blob }),
        Err(Stopped::Io(e)) => return Err(io_error("write", temporary.path())(e)),
    }
    temporary.publish()?;
    let used: u64 = header.blobs.iter().map(|b| b.len).sum();
    Ok(Written { padding: file_len - header_end - used, header, header_end, file_len })
}

/// A header as it lies in the file.
struct Stored {
    bytes: Vec<u8>,
    /// See [`Preamble::text_len`].
    text_len: u64,
}

/// Completes the header; gives it, how it is stored, and the ids of the blobs that have bytes in file order.
fn finish(
    contents: Contents,
    source: &dyn BlobSource,
    cancel: &AtomicBool,
) -> Result<(Header, Stored, Vec<BlobId>), PackError> {
    let Contents { mut header, sections, needs, .. } = contents;
    let order: Vec<BlobId> = sections.iter().flatten().copied().collect();
    let mut times = vec![0; order.len()];
    for &id in &order {
        match times.get_mut(id as usize) {
            Some(n) => *n += 1,
            // Greater than the number of listed ids: one below it is missing, or it is listed instead.
            None => return Err(PackError::BlobPlaces { blob: first_missing(&order), times: 0 }),
        }
    }
    if let Some(id) = times.iter().position(|&n| n != 1) {
        return Err(PackError::BlobPlaces { blob: id as BlobId, times: times[id] });
    }
    header.blobs = Vec::with_capacity(order.len());
    for blob in 0..order.len() as BlobId {
        if cancel.load(Ordering::Relaxed) {
            return Err(PackError::Cancelled);
        }
        let bytes = source.blob(blob).ok_or(PackError::NoSuchBlob { blob })?;
        header.blobs.push(Blob { offset: 0, len: bytes.len() as u64, hash: hash128(&[bytes]) });
    }
    if needs.len() != header.rungs.len() {
        return Err(PackError::NeedsCount { needs: needs.len(), rungs: header.rungs.len() });
    }
    let mut needs = needs;
    for (rung, ids) in needs.iter_mut().enumerate() {
        ids.sort_unstable();
        ids.dedup();
        if let Some(&blob) = ids.last().filter(|&&id| id as usize >= header.blobs.len()) {
            return Err(PackError::NeedsNoBlob { rung, blob });
        }
        header.rungs[rung].bytes = ids.iter().map(|&id| header.blobs[id as usize].len).sum();
    }

    // Offsets stand in the header, and its length moves them. A later start never makes a number shorter, so the
    // header's end, begun below the answer, only grows until it is the one that it was laid out for. A packed one may come out shorter, too:
    // then what it does not need stays 0.
    let mut header_end = PREAMBLE as u64;
    let (text, stored) = loop {
        header.sections = place(header_end, &sections, &mut header.blobs)?;
        for (rung, ids) in header.rungs.iter_mut().zip(&needs) {
            let with_bytes = ids.iter().map(|&id| &header.blobs[id as usize]).filter(|b| b.len > 0);
            rung.end = with_bytes.map(|b| b.offset + b.len).max().unwrap_or(header_end);
        }
        let text = serde_json::to_vec(&header).map_err(PackError::HeaderJson)?;
        let packed = packed(&text);
        let is_packed = packed.is_some();
        let mut bytes = packed.unwrap_or_else(|| text.clone());
        let end = (PREAMBLE + bytes.len()) as u64;
        if end == header_end || is_packed && end < header_end {
            bytes.resize(header_end as usize - PREAMBLE, 0);
            let text_len = if is_packed { text.len() as u64 } else { 0 };
            break (text, Stored { bytes, text_len });
        }
        header_end = end;
    };

    // The reader's own checks: what it would refuse is not written.
    if text.len() as u64 > MAX_HEADER {
        return Err(PackError::HeaderLength { len: text.len() as u64, cap: MAX_HEADER });
    }
    let needs = decoded_bound(&text)?;
    if needs > MAX_DECODED {
        return Err(PackError::HeaderMemory { needs, cap: MAX_DECODED });
    }
    check(&header, header_end)?;
    check_comes_back(&header, &text)?;
    Ok((header, stored, order))
}

fn first_missing(order: &[BlobId]) -> BlobId {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    std::iter::zip(0.., &sorted).find(|(i, id)| i != *id).map_or(sorted.len() as BlobId, |(i, _)| i)
}

/// JSON has no infinities: serde writes `null`, which does not read back as a number.
fn check_comes_back(header: &Header, text: &[u8]) -> Result<(), PackError> {
    match serde_json::from_slice::<Header>(text) {
        Ok(read) if read == *header => Ok(()),
        Ok(_) => Err(PackError::NotStorable { place: "a number that reads back as another".to_owned() }),
        Err(e) => {
            let column = e.column().min(text.len());
            let near = String::from_utf8_lossy(&text[column.saturating_sub(80)..column]);
            Err(PackError::NotStorable { place: near.into_owned() })
        }
    }
}

/// Why writing stopped.
#[derive(Debug)]
enum Stopped {
    Flag,
    Blob(BlobId),
    Io(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(e: io::Error) -> Stopped {
        Stopped::Io(e)
    }
}

fn emit(
    out: &mut dyn Write,
    preamble: &Preamble,
    text: &[u8],
    header: &Header,
    order: &[BlobId],
    source: &dyn BlobSource,
    cancel: &AtomicBool,
) -> Result<(), Stopped> {
    out.write_all(&preamble.encode())?;
    out.write_all(text)?;
    let mut at = preamble.header_end();
    for &id in order {
        let blob = header.blobs[id as usize];
        if blob.len == 0 {
            continue;
        }
        write_zeros(out, blob.offset - at)?;
        let bytes = source.blob(id).filter(|b| b.len() as u64 == blob.len).ok_or(Stopped::Blob(id))?;
        for chunk in bytes.chunks(CHUNK) {
            if cancel.load(Ordering::Relaxed) {
                return Err(Stopped::Flag);
            }
            out.write_all(chunk)?;
        }
        at = blob.offset + blob.len;
    }
    out.flush()?;
    Ok(())
}

fn write_zeros(out: &mut dyn Write, count: u64) -> io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut left = count;
    while left > 0 {
        let n = left.min(ZEROS.len() as u64);
        out.write_all(&ZEROS[..n as usize])?;
        left -= n;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::MemorySource;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_keeps_its_kind() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut out = io::BufWriter::new(full);
        let never = AtomicBool::new(false);
        let preamble = Preamble::new(0, b"{}", 0);
        let header = Header::default();
        let stopped = emit(&mut out, &preamble, b"{}", &header, &[], &MemorySource::default(), &never);
        let (_, _) = out.into_parts();
        match stopped {
            Err(Stopped::Io(e)) => assert_eq!(e.kind(), io::ErrorKind::StorageFull),
            other => panic!("{other:?}"),
        }
    }
}
