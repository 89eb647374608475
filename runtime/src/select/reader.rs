//! From a chosen rung to the bytes of its weights; what to do where they are not what was written.

use super::{Request, SelectError, Selection, Weighing, select_beside};
use crate::device::Device;
use crate::model::Model;
use crate::pack::{BlobSource, PackFile, Rung};
use crate::plan::InputSpec;
use std::sync::Arc;

/// How the bytes of weights come into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Mapped. Nobody looks at their hashes.
    #[default]
    Mapped,
    /// Mapped, once each blob was read and had the hash that the header says.
    Checked,
    /// Read into memory and checked on the way: for files that others may write to. Weights that are streamed come from the file
    /// again and again; these are mapped, and checked before.
    Loaded,
}

/// Gets the bytes of a pack's rungs, and knows which rungs turned out not to be usable.
pub struct Reader {
    pack: Arc<PackFile>,
    access: Access,
    /// By blob, whether it was read and had its hash.
    sound: Vec<bool>,
    available: Vec<usize>,
}

impl Reader {
    /// A reader that has not looked at a blob yet.
    pub fn new(pack: Arc<PackFile>, access: Access) -> Reader {
        let (sound, available) = (vec![false; pack.header().blobs.len()], pack.available().to_vec());
        Reader { pack, access, sound, available }
    }

    /// The same reader for a model that is chosen among other rungs of ([`Model::among`]), all of which are there.
    pub fn among(mut self, model: &Model) -> Reader {
        self.choose_among(model);
        self
    }

    /// As [`Reader::among`], in place; gives what was available. Of the header's rungs those are that are whole.
    pub(crate) fn choose_among(&mut self, model: &Model) -> Vec<usize> {
        let now = match model.has_own_rungs() {
            true => (0..model.rungs().len()).collect(),
            false => self.pack.available().to_vec(),
        };
        std::mem::replace(&mut self.available, now)
    }

    /// Takes back what was available.
    pub(crate) fn restore(&mut self, available: Vec<usize>) {
        self.available = available;
    }

    /// How bytes come into memory.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Indices of the rungs that are whole and known, less those that need a blob with another hash than the header says.
    pub fn available(&self) -> &[usize] {
        &self.available
    }

    /// The bytes of a rung's weights and constants. What a model of another rung, `before`, has in memory is shared, so that each byte
    /// is read once.
    ///
    /// # Errors
    /// When the file cannot be read or a tensor's expression is not sound. When a hash is wrong ([`crate::pack::PackError::BadBlob`]), the rungs that
    /// need the blob are not available any more.
    pub fn source(
        &mut self,
        model: &Model,
        rung: &Rung,
        weighing: Weighing,
        before: Option<&Model>,
    ) -> Result<Arc<dyn BlobSource>, SelectError> {
        let read = self.read(model, rung, weighing, before);
        if let Some(blob) = read.as_ref().err().and_then(SelectError::damaged) {
            let rungs = model.rungs();
            // A rung whose blobs cannot be told is refused by itself when it is chosen.
            self.available.retain(|r| model.blobs_of(&rungs[*r]).is_ok_and(|blobs| !blobs.contains(&blob)));
        }
        read
    }

    fn read(
        &mut self,
        model: &Model,
        rung: &Rung,
        weighing: Weighing,
        before: Option<&Model>,
    ) -> Result<Arc<dyn BlobSource>, SelectError> {
        if self.access != Access::Mapped {
            let blobs = model.blobs_of(rung)?;
            if self.access == Access::Loaded && weighing == Weighing::Resident {
                let before = before.and_then(|model| model.source().loaded());
                return Ok(Arc::new(self.pack.load_beside(&blobs, true, before)?));
            }
            for blob in blobs {
                let sound = &mut self.sound[blob as usize];
                if !*sound {
                    self.pack.verify_blob(blob)?;
                    *sound = true;
                }
            }
        }
        Ok(Arc::new(self.pack.map(rung.end)?))
    }
}

/// As [`super::select`], with the bytes of the rung: where they have another hash than the header says, the best of the rungs that do
/// not need them is chosen, and the log says so. A rung that the caller chose is refused then.
///
/// # Errors
/// As [`super::select`], and when no rung is left, or the file cannot be read.
pub fn select_read(
    device: &Device,
    model: &Model,
    inputs: &[InputSpec],
    request: &Request<'_>,
    reader: &mut Reader,
) -> Result<(Selection, Arc<dyn BlobSource>), SelectError> {
    let baseline = crate::device::current_rss().unwrap_or(0);
    let mut lost: Vec<&str> = Vec::new();
    loop {
        let available = reader.available().to_vec();
        let request = Request { available: &available, ..request.clone() };
        let chosen = select_beside(device, model, inputs, &request, baseline, device.ledger().budget())?;
        let rung = &model.rungs()[chosen.rung];
        match reader.source(model, rung, chosen.weighing, None) {
            Err(error)
                if error.damaged().is_some()
                    && request.forced.is_none()
                    && !reader.available().is_empty() =>
            {
                log::warn!("{error}; rung `{}` needs it", rung.id);
                lost.push(&rung.id);
            }
            read => {
                let source = read?;
                if !lost.is_empty() {
                    log::warn!("rung `{}` is used instead of `{}`", rung.id, lost.join("`, `"));
                }
                return Ok((chosen, source));
            }
        }
    }
}
