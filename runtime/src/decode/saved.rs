//! Keys and values in a file, with the tokens that they are of: what was read once is not read again, in another process either.
//!
//! ```text
//! magic     8 bytes
//! pack      its hash, 16 bytes: others have other keys for the same tokens
//! rung      u32 and so many bytes, UTF-8
//! kept as   the element type likewise
//! tokens    u64, then i64 each
//! caches    for each attention, its keys and its values, head by head: the tokens' part of each, and of scales
//! hash      of everything before, 16 bytes
//! ```
//! Numbers are little-endian. Nothing depends on the context: a session with another one, or of fewer tokens, reads the same file.

use super::Decoder;
use crate::graph::DType;
use crate::pack::finish128;
use crate::plan::{CachedShape, Operand, StepOp};
use edge_kernels::cpu::attention::PANEL;
use std::io::{self, Read, Write};
use std::ops::Range;

const MAGIC: [u8; 8] = *b"\x89EKV\r\n\0\x01";
/// Most bytes of a name.
const NAME: usize = 256;

/// A file of keys and values that cannot be read, or is of something else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum SavedError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("these are no keys and values that were saved: the first bytes are others")]
    Magic,
    #[error("keys and values of {what} {theirs}, this is {ours}")]
    Other { what: &'static str, theirs: String, ours: String },
    #[error("the keys and values are damaged ({0}); delete the file")]
    Damaged(String),
}

/// Reads and hashes.
struct Hashed<'a, T: ?Sized> {
    inner: &'a mut T,
    hasher: blake3::Hasher,
}

impl<'a, T: ?Sized> Hashed<'a, T> {
    fn new(inner: &'a mut T) -> Hashed<'a, T> {
        Hashed { inner, hasher: blake3::Hasher::new() }
    }
}

impl<T: Write + ?Sized> Hashed<'_, T> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.inner.write_all(bytes)
    }

    fn put_name(&mut self, name: &str) -> io::Result<()> {
        self.put(&(name.len() as u32).to_le_bytes())?;
        self.put(name.as_bytes())
    }
}

impl<T: Read + ?Sized> Hashed<'_, T> {
    fn get(&mut self, bytes: &mut [u8]) -> Result<(), SavedError> {
        self.inner.read_exact(bytes).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => SavedError::Damaged("they end too early".into()),
            _ => e.into(),
        })?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SavedError> {
        let mut bytes = [0; N];
        self.get(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, mut bytes: usize) -> Result<(), SavedError> {
        let mut some = [0; 512];
        while bytes > 0 {
            let now = bytes.min(some.len());
            self.get(&mut some[..now])?;
            bytes -= now;
        }
        Ok(())
    }

    fn name(&mut self) -> Result<String, SavedError> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        if len > NAME {
            return Err(SavedError::Damaged(format!("a name of {len} bytes")));
        }
        let mut bytes = vec![0; len];
        self.get(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| SavedError::Damaged("a name that is not UTF-8".into()))
    }
}

impl Decoder {
    /// Writes the keys and values of the tokens that are kept, `ids`.
    ///
    /// # Errors
    /// When they cannot be written.
    ///
    /// # Panics
    /// When `ids` are not as many as are kept.
    pub fn save(&self, ids: &[i64], to: &mut dyn Write) -> Result<(), SavedError> {
        assert_eq!(ids.len(), self.past, "ids of what is kept");
        let mut to = Hashed::new(to);
        to.put(&MAGIC)?;
        to.put(&self.hash.to_le_bytes())?;
        to.put_name(&self.rung.id)?;
        to.put_name(&self.kept().to_string())?;
        to.put(&(ids.len() as u64).to_le_bytes())?;
        for id in ids {
            to.put(&id.to_le_bytes())?;
        }
        for (cache, shape, values) in self.caches() {
            let bytes = self.session.bytes_of(&cache);
            for head in bytes.chunks_exact((bytes.len() / shape.kv_heads.max(1)).max(1)) {
                for part in parts(&shape, values, ids.len()) {
                    to.put(&head[part])?;
                }
            }
        }
        let hash = finish128(&to.hasher);
        to.inner.write_all(&hash.to_le_bytes())?;
        Ok(())
    }

    /// Takes keys and values that were saved, in place of those that are kept, as many as there is room for; gives their tokens.
    ///
    /// # Errors
    /// [`SavedError::Other`] when they are of another pack, rung or kind: nothing has changed then. After other errors nothing is kept.
    pub fn restore(&mut self, from: &mut dyn Read) -> Result<Vec<i64>, SavedError> {
        let mut from = Hashed::new(from);
        if from.array()? != MAGIC {
            return Err(SavedError::Magic);
        }
        let hash = u128::from_le_bytes(from.array()?);
        let found = [format!("{hash:032x}"), from.name()?, from.name()?];
        let ours = [format!("{:032x}", self.hash), self.rung.id.clone(), self.kept().to_string()];
        for (what, (theirs, ours)) in
            ["pack", "rung", "elements"].into_iter().zip(found.into_iter().zip(ours))
        {
            if theirs != ours {
                return Err(SavedError::Other { what, theirs, ours });
            }
        }
        self.past = 0;
        let saved = u64::from_le_bytes(from.array()?);
        let longest = self.decoding.longest.max(self.context) as u64;
        if saved > longest {
            return Err(SavedError::Damaged(format!("{saved} tokens of {longest} that there can be")));
        }
        let (saved, room) = (saved as usize, self.context);
        let mut ids = Vec::with_capacity(saved.min(room));
        for _ in 0..saved {
            let id = i64::from_le_bytes(from.array()?);
            if !(0..self.vocabulary as i64).contains(&id) {
                return Err(SavedError::Damaged(format!("token {id} of {}", self.vocabulary)));
            }
            if ids.len() < room {
                ids.push(id);
            }
        }
        for (cache, shape, values) in self.caches() {
            let bytes = self.session.bytes_of_mut(&cache);
            let each = (bytes.len() / shape.kv_heads.max(1)).max(1);
            for head in bytes.chunks_exact_mut(each) {
                let all = parts(&shape, values, saved);
                for (part, all) in parts(&shape, values, ids.len()).zip(all) {
                    let more = all.len() - part.len();
                    from.get(&mut head[part])?;
                    from.skip(more)?;
                }
            }
        }
        let hash = finish128(&from.hasher);
        if u128::from_le_bytes(from.array()?) != hash {
            return Err(SavedError::Damaged("their hash is another".into()));
        }
        self.past = ids.len();
        Ok(ids)
    }

    /// How keys and values are kept.
    fn kept(&self) -> DType {
        self.caches().next().map_or(DType::F32, |(_, shape, _)| shape.kept)
    }

    /// Where keys and values lie, and whether they are values, in the order of the graph.
    fn caches(&self) -> impl Iterator<Item = (Operand, CachedShape, bool)> + use<> {
        let mut caches = Vec::new();
        for step in &self.session.plan().steps {
            if let (StepOp::CachedAttention(shape), [_, keys, values]) = (&step.op, &step.outputs[..]) {
                caches.extend([(keys.clone(), *shape, false), (values.clone(), *shape, true)]);
            }
        }
        caches.into_iter()
    }
}

/// The bytes of a head that belong to its first tokens: see [`edge_kernels::cpu::attention::write_key`] and `write_value`.
fn parts(shape: &CachedShape, values: bool, tokens: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let (context, depth) = (shape.context, if values { shape.e } else { shape.d });
    let element = shape.kept.bytes();
    let padded = depth.next_multiple_of(PANEL);
    let (panels, each, apart) = match values {
        // A panel of 16 elements of each token, and the next 16.
        true => (padded / PANEL, tokens * PANEL, context * PANEL),
        // 16 tokens side by side, and the next 16.
        false => (1, tokens.next_multiple_of(PANEL) * depth, 0),
    };
    let elements = (0..panels).map(move |p| p * apart * element..(p * apart + each) * element);
    let scales = (shape.kept == DType::I8).then(|| context * padded..context * padded + tokens * 4);
    elements.chain(scales)
}
