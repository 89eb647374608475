//! Zip archives, as far as NumPy and PyTorch use them: members stored or deflated, none encrypted, one file.
//!
//! Read and written here because the crate that does it brings path rules, time stamps, maps and a compressor into a
//! binary that is to stay below 3 MB. Source: PKWARE's APPNOTE.TXT, sections 4.3 to 4.5.

use flate2::read::DeflateDecoder;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::ops::Range;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;

/// Bytes of the fixed parts.
const LOCAL_LEN: u64 = 30;
const CENTRAL_LEN: usize = 46;
const END_LEN: usize = 22;
const LOCATOR_LEN: usize = 20;
const END_64_LEN: usize = 56;

/// The extra field that holds 64-bit sizes.
const EXTRA_64: u16 = 1;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// "Needed to extract": 4.5, which has 64-bit sizes.
const VERSION: u16 = 45;
/// 1980-01-01, the first day that the format knows: the same arrays give the same file.
const DATE: u16 = 1 << 5 | 1;
/// A member is encrypted.
const ENCRYPTED: u16 = 1;

/// Members that are read of one archive: a list is not allocated for what a few bytes claim.
const MAX_MEMBERS: u64 = 1 << 16;

/// A member of an archive.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its path in the archive.
    pub name: String,
    /// Bytes that it holds, as the archive says.
    pub size: u64,
    /// The sum of these bytes; 0 from writers that leave it out.
    pub crc: u32,
    flags: u16,
    method: u16,
    packed: u64,
    /// Where its local header lies.
    at: u64,
}

fn wrong(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl Member {
    /// Whether its bytes lie in the archive as they are.
    pub fn is_stored(&self) -> bool {
        self.method == STORED && self.flags & ENCRYPTED == 0
    }
}

/// The members of an archive, in the order of its directory.
///
/// # Errors
/// When the directory is not whole.
pub fn members(source: &mut (impl BufRead + Seek)) -> io::Result<Vec<Member>> {
    let (count, at) = directory(source)?;
    if count > MAX_MEMBERS {
        return Err(wrong(format!("an archive of {count} members, at most {MAX_MEMBERS} are read")));
    }
    source.seek(SeekFrom::Start(at))?;
    (0..count).map(|_| member(source)).collect()
}

/// How many members the directory has and where it starts.
fn directory(source: &mut (impl Read + Seek)) -> io::Result<(u64, u64)> {
    let len = source.seek(SeekFrom::End(0))?;
    // The end record is the last thing in the file but for a comment, whose length is 16 bits.
    let tail_len = len.min((END_LEN + LOCATOR_LEN) as u64 + u64::from(u16::MAX));
    source.seek(SeekFrom::Start(len - tail_len))?;
    let mut tail = vec![0; tail_len as usize];
    source.read_exact(&mut tail)?;
    let is_end = |at: &usize| {
        u32_at(&tail, *at) == END && *at + END_LEN + usize::from(u16_at(&tail, at + 20)) == tail.len()
    };
    let end = (0..(tail.len() + 1).saturating_sub(END_LEN)).rev().find(is_end);
    let end = end.ok_or_else(|| wrong("no zip archive: its end record is missing"))?;
    let (count, at) = (u16_at(&tail, end + 10), u32_at(&tail, end + 16));
    let locator = end.checked_sub(LOCATOR_LEN).filter(|at| u32_at(&tail, *at) == LOCATOR_64);
    match locator {
        Some(locator) if count == u16::MAX || at == u32::MAX => {
            source.seek(SeekFrom::Start(u64_at(&tail, locator + 8)))?;
            let mut end = [0; END_64_LEN];
            source.read_exact(&mut end)?;
            if u32_at(&end, 0) != END_64 {
                return Err(wrong("the archive's 64-bit end record is missing"));
            }
            Ok((u64_at(&end, 32), u64_at(&end, 48)))
        }
        _ => Ok((count.into(), at.into())),
    }
}

fn member(source: &mut impl Read) -> io::Result<Member> {
    let mut fixed = [0; CENTRAL_LEN];
    source.read_exact(&mut fixed)?;
    if u32_at(&fixed, 0) != CENTRAL {
        return Err(wrong("the archive's directory has fewer members than its end record says"));
    }
    let mut take = |len: u16| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len.into()];
        source.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let (name, extra) = (take(u16_at(&fixed, 28))?, take(u16_at(&fixed, 30))?);
    take(u16_at(&fixed, 32))?;
    let name = String::from_utf8(name).map_err(|_| wrong("a member's name is no UTF-8"))?;
    let mut wide = wide_fields(&extra);
    // Each 32-bit field that is all ones stands, in this order, for the next 64-bit one.
    let mut widen = |at: usize| match u32_at(&fixed, at) {
        u32::MAX => {
            let field = wide.next();
            field.ok_or_else(|| wrong(format!("member `{name}` lacks its 64-bit sizes")))
        }
        narrow => Ok(narrow.into()),
    };
    let (size, packed, at) = (widen(24)?, widen(20)?, widen(42)?);
    let (flags, method, crc) = (u16_at(&fixed, 8), u16_at(&fixed, 10), u32_at(&fixed, 16));
    Ok(Member { name, size, crc, flags, method, packed, at })
}

/// The 64-bit fields of a directory entry, one after the other.
fn wide_fields(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut fields: &[u8] = &[];
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        let len = usize::from(u16_at(head, 2)).min(rest.len());
        if u16_at(head, 0) == EXTRA_64 {
            fields = &rest[..len];
            break;
        }
        extra = &rest[len..];
    }
    fields.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Where a member's bytes lie in an archive that is in memory, as they are or deflated.
///
/// # Errors
/// When they do not lie in it.
pub fn place(archive: &[u8], member: &Member) -> io::Result<Range<usize>> {
    let outside =
        || wrong(format!("member `{}` lies outside of the archive; the file may be cut", member.name));
    let local_len = LOCAL_LEN as usize;
    let at = usize::try_from(member.at).map_err(|_| outside())?;
    let local = archive.get(at..).and_then(|rest| rest.get(..local_len)).ok_or_else(outside)?;
    if u32_at(local, 0) != LOCAL {
        return Err(wrong(format!("no member `{}` where the archive's directory says", member.name)));
    }
    let start = at + local_len + usize::from(u16_at(local, 26)) + usize::from(u16_at(local, 28));
    let len = usize::try_from(member.packed).map_err(|_| outside())?;
    let end = start.checked_add(len).filter(|end| *end <= archive.len()).ok_or_else(outside)?;
    if member.is_stored() && member.size != member.packed {
        return Err(wrong(format!(
            "member `{}` has two sizes: {} and {}",
            member.name, member.packed, member.size
        )));
    }
    Ok(start..end)
}

/// Gives a member's bytes to `read`; then checks their sum.
///
/// # Errors
/// When they cannot be read, or do not have the sum that the archive says.
pub fn read_member<T>(
    source: &mut (impl BufRead + Seek),
    member: &Member,
    read: impl FnOnce(&mut dyn Read) -> io::Result<T>,
) -> io::Result<T> {
    if member.flags & ENCRYPTED != 0 {
        return Err(wrong("it is encrypted"));
    }
    source.seek(SeekFrom::Start(member.at))?;
    let mut local = [0; LOCAL_LEN as usize];
    source.read_exact(&mut local)?;
    if u32_at(&local, 0) != LOCAL {
        return Err(wrong("the archive has no member where its directory says"));
    }
    // Names and extra fields may differ from the directory's, in length too.
    let skip = i64::from(u16_at(&local, 26)) + i64::from(u16_at(&local, 28));
    source.seek_relative(skip)?;
    let packed = source.take(member.packed);
    match member.method {
        STORED => checked(packed, member.crc, read),
        DEFLATED => checked(DeflateDecoder::new(packed), member.crc, read),
        other => Err(wrong(format!("compression method {other} is not read"))),
    }
}

fn checked<T>(
    source: impl Read,
    crc: u32,
    read: impl FnOnce(&mut dyn Read) -> io::Result<T>,
) -> io::Result<T> {
    let mut source = Summed { inner: source, sum: crc32fast::Hasher::new(), len: 0 };
    let value = read(&mut source)?;
    // What follows belongs to the sum. More than a page of it is no padding, but a trap for the patient.
    io::copy(&mut (&mut source).take(4096), &mut io::sink())?;
    if source.sum.finalize() != crc {
        return Err(wrong("its bytes do not have the sum that the archive says"));
    }
    Ok(value)
}

/// Counts and sums what passes.
struct Summed<T> {
    inner: T,
    sum: crc32fast::Hasher,
    len: u64,
}

impl<T: Read> Read for Summed<T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.sum.update(&out[..n]);
        self.len += n as u64;
        Ok(n)
    }
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sum.update(&bytes[..n]);
        self.len += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes an archive of stored members.
pub(super) struct Writer<W> {
    target: W,
    /// The directory so far.
    directory: Vec<u8>,
    count: u64,
}

impl<W: Write + Seek> Writer<W> {
    pub fn new(target: W) -> Self {
        Writer { target, directory: Vec::new(), count: 0 }
    }

    /// Adds a member that `write` fills.
    pub fn add(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let name_len = u16::try_from(name.len()).map_err(|_| wrong("a name of more than 65535 bytes"))?;
        let at = self.target.stream_position()?;
        self.target.write_all(&local(name_len, 0, 0))?;
        self.target.write_all(name.as_bytes())?;
        let sizes = self.target.stream_position()?;
        self.target.write_all(&wide(&[0, 0]))?;
        let mut member = Summed { inner: &mut self.target, sum: crc32fast::Hasher::new(), len: 0 };
        write(&mut member)?;
        let (crc, len) = (member.sum.finalize(), member.len);
        // Now that the sum and the length are known they go where they were left out.
        let end = self.target.stream_position()?;
        self.target.seek(SeekFrom::Start(at))?;
        self.target.write_all(&local(name_len, crc, u32::MAX))?;
        self.target.seek(SeekFrom::Start(sizes))?;
        self.target.write_all(&wide(&[len, len]))?;
        self.target.seek(SeekFrom::Start(end))?;

        let extra = wide(&[len, len, at]);
        self.directory.extend(CENTRAL.to_le_bytes());
        self.directory.extend(VERSION.to_le_bytes());
        self.directory.extend(&common(name_len, crc, u32::MAX, extra.len() as u16));
        // Comment, disk, attributes; then where the member lies: in the extra field.
        self.directory.extend([0; 10]);
        self.directory.extend(u32::MAX.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.directory.extend(extra);
        self.count += 1;
        Ok(())
    }

    /// Writes the directory.
    pub fn finish(mut self) -> io::Result<()> {
        let at = self.target.stream_position()?;
        let len = self.directory.len() as u64;
        self.target.write_all(&self.directory)?;
        let mut end = Vec::with_capacity(END_64_LEN + LOCATOR_LEN + END_LEN);
        end.extend(END_64.to_le_bytes());
        end.extend((END_64_LEN as u64 - 12).to_le_bytes());
        end.extend([VERSION.to_le_bytes(), VERSION.to_le_bytes()].concat());
        end.extend([0; 8]);
        for field in [self.count, self.count, len, at] {
            end.extend(field.to_le_bytes());
        }
        end.extend([LOCATOR_64.to_le_bytes(), 0u32.to_le_bytes()].concat());
        end.extend((at + len).to_le_bytes());
        end.extend(1u32.to_le_bytes());
        end.extend(END.to_le_bytes());
        end.extend([0; 4]);
        // Counts and sizes are in the 64-bit record above.
        end.extend([0xff; 12]);
        end.extend([0; 2]);
        self.target.write_all(&end)?;
        self.target.flush()
    }
}

/// The fields that a local header and the directory share, from the needed version on.
fn common(name_len: u16, crc: u32, len: u32, extra_len: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(26);
    for field in [VERSION, 0, STORED, 0, DATE] {
        bytes.extend(field.to_le_bytes());
    }
    for field in [crc, len, len] {
        bytes.extend(field.to_le_bytes());
    }
    for field in [name_len, extra_len] {
        bytes.extend(field.to_le_bytes());
    }
    bytes
}

fn local(name_len: u16, crc: u32, len: u32) -> Vec<u8> {
    [&LOCAL.to_le_bytes()[..], &common(name_len, crc, len, 20)].concat()
}

/// An extra field of 64-bit values.
fn wide(values: &[u64]) -> Vec<u8> {
    let mut bytes = [EXTRA_64.to_le_bytes(), ((8 * values.len()) as u16).to_le_bytes()].concat();
    values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::{Writer, members, read_member};
    use crate::random::philox;
    use std::io::{Cursor, Read};

    fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = Writer::new(&mut bytes);
        files.iter().for_each(|(name, data)| writer.add(name, |t| t.write_all(data)).unwrap());
        writer.finish().unwrap();
        bytes.into_inner()
    }

    fn read_all(bytes: &[u8]) -> std::io::Result<Vec<(String, Vec<u8>)>> {
        let mut source = Cursor::new(bytes);
        let read = |member: super::Member| {
            let mut data = Vec::new();
            let limit = 1 << 20;
            let read = |source: &mut dyn Read| source.take(limit).read_to_end(&mut data);
            read_member(&mut source, &member, read)?;
            Ok((member.name, data))
        };
        members(&mut Cursor::new(bytes))?.into_iter().map(read).collect()
    }

    #[test]
    fn members_come_back_and_every_cut_or_changed_byte_is_harmless() {
        let data: Vec<u8> = (0..3000).map(|i| philox(1, i)[0] as u8).collect();
        let files = [("a.npy", data), ("b/c.npy", b"x".to_vec()), ("", vec![])];
        let bytes = archive(&files);
        let owned = files.clone().map(|(name, data)| (name.to_string(), data));
        assert_eq!(read_all(&bytes).unwrap(), owned);
        assert_eq!(read_all(&archive(&[])).unwrap(), []);
        for len in 0..bytes.len() {
            assert!(read_all(&bytes[..len]).is_err(), "cut at {len}");
        }
        for i in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[i] ^= flip;
                // Names, dates and versions may change unseen; what a member holds may not.
                if let Ok(read) = read_all(&changed) {
                    for (_, data) in read {
                        assert!(files.iter().any(|(_, d)| *d == data), "byte {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_numpy_deflates_is_read() {
        // What np.savez_compressed makes of one array: Python's zipfile, deflated, 64-bit sizes in the local header.
        let bytes = NUMPY;
        let read = read_all(bytes).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].0, "ramp.npy");
        assert_eq!(read[0].1[128..], (0..200u8).map(|i| i % 10).collect::<Vec<u8>>());
    }

    const NUMPY: &[u8] = &[
        80, 75, 3, 4, 45, 0, 0, 0, 8, 0, 0, 0, 33, 0, 206, 252, 114, 113, 255, 255, 255, 255, 255, 255, 255,
        255, 8, 0, 20, 0, 114, 97, 109, 112, 46, 110, 112, 121, 1, 0, 16, 0, 72, 1, 0, 0, 0, 0, 0, 0, 83, 0,
        0, 0, 0, 0, 0, 0, 155, 236, 23, 234, 27, 16, 201, 200, 80, 198, 80, 173, 158, 146, 90, 156, 92, 164,
        110, 165, 160, 94, 83, 106, 168, 174, 163, 160, 158, 150, 95, 84, 82, 148, 152, 23, 159, 95, 148,
        146, 10, 18, 119, 75, 204, 41, 78, 5, 138, 23, 103, 36, 22, 164, 2, 249, 26, 70, 6, 6, 58, 154, 58,
        10, 181, 10, 100, 3, 46, 6, 70, 38, 102, 22, 86, 54, 118, 14, 206, 161, 205, 2, 0, 80, 75, 1, 2, 45,
        3, 45, 0, 0, 0, 8, 0, 0, 0, 33, 0, 206, 252, 114, 113, 83, 0, 0, 0, 72, 1, 0, 0, 8, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 128, 1, 0, 0, 0, 0, 114, 97, 109, 112, 46, 110, 112, 121, 80, 75, 5, 6, 0, 0, 0, 0, 1,
        0, 1, 0, 54, 0, 0, 0, 141, 0, 0, 0, 0, 0,
    ];
}
