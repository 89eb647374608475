//! The three models: opened, given their rungs together, each with its session.

use crate::args::Args;
use crate::boxes::MOST_BYTES;
use crate::failure::Failure;
use edge_runtime::device::Device;
use edge_runtime::graph::DType;
use edge_runtime::inputs::{Frame, InputError, Region};
use edge_runtime::pack::{PackFile, Preprocess};
use edge_runtime::plan::InputSpec;
use edge_runtime::select::{Member, Request, Share, TogetherError, Weighing, choose_together};
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use serde_json::{Value, json};
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Sides of the detector's picture are multiples of this: the network halves them five times.
pub const MULTIPLE: usize = 32;
/// The least longer side that is tried when the memory is small: letters of 30 pixels on a page of 1000 stay legible.
const LEAST_SIDE: usize = 320;
/// A rung below this runs only when nothing else fits: at 20 dB the error is a hundredth of the signal's power. A smaller
/// picture with better rungs reads more than a larger one with worse.
const LEAST_DB: f32 = 20.0;

/// What the shapes may grow to.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Of the longer side of the detector's picture.
    pub side: usize,
    /// Of a line of text at the recogniser's height.
    pub width: usize,
}

/// A pack and how a picture becomes its one input.
struct Packed {
    name: &'static str,
    pack: PackFile,
    /// Over a mapping of the whole file, for planning; no weight is read through it.
    model: Model,
    input: String,
    how: Preprocess,
}

impl Packed {
    fn open(name: &'static str, path: &Path, device: &Device) -> Result<Packed, Failure> {
        let trouble = |source| Failure::Pack { name, source };
        let pack = PackFile::open_within(path, device.ledger().budget()).map_err(trouble)?;
        let bytes = Arc::new(pack.map(pack.file_len()).map_err(trouble)?);
        let model = Model::new(pack.shared_header(), bytes, Arc::new(Registry::standard()));
        let header = model.header();
        let wrong = |why: &str| Failure::Model { name, why: format!("{}: {why}", path.display()) };
        let [port] = &header.graphs[0].inputs[..] else {
            return Err(wrong("the model has not one input; is this another model's pack?"));
        };
        let input = header.graphs[0].name(port.value).to_string();
        let how = header.card.preprocess.get(&input).cloned();
        let how = how.ok_or_else(|| wrong("the card says nothing of pictures; convert with --card"))?;
        Ok(Packed { name, pack, model, input, how })
    }

    fn spec(&self, [height, width]: [usize; 2]) -> InputSpec {
        InputSpec {
            name: self.input.clone(),
            dtype: DType::F32,
            dims: vec![1, 3, height, width],
            value: None,
        }
    }

    /// Height and width that the card names.
    fn size(&self) -> Result<[usize; 2], Failure> {
        match &self.how {
            Preprocess::Image { size: Some(size), .. } => Ok(*size),
            _ => Err(Failure::Model { name: self.name, why: "the card names no size".into() }),
        }
    }

    /// The classes of a recogniser: what its model file lists, between the blank and the space that CTC adds.
    fn characters(&self) -> Result<Vec<String>, Failure> {
        let listed = self.model.header().card.metadata.get("character");
        let listed = listed.ok_or_else(|| Failure::Model {
            name: self.name,
            why: "the model lists no characters (metadata `character`)".into(),
        })?;
        let blank = std::iter::once(String::new());
        Ok(blank.chain(listed.lines().map(str::to_string)).chain(std::iter::once(" ".to_string())).collect())
    }
}

/// The three packs.
pub struct Packs {
    det: Packed,
    cls: Packed,
    rec: Packed,
}

impl Packs {
    /// Opens the three; no weight is touched.
    pub fn open(device: &Device, args: &Args) -> Result<Packs, Failure> {
        Ok(Packs {
            det: Packed::open("det", &args.det, device)?,
            cls: Packed::open("cls", &args.cls, device)?,
            rec: Packed::open("rec", &args.rec, device)?,
        })
    }
}

/// Little-endian floats where a session holds them.
#[derive(Clone, Copy)]
pub struct Values<'a>(&'a [[u8; 4]]);

impl<'a> Values<'a> {
    /// Of elements that lie one after another.
    pub fn new(elements: &'a [[u8; 4]]) -> Values<'a> {
        Values(elements)
    }

    /// All in order.
    pub fn iter(self) -> impl Iterator<Item = f32> + 'a {
        self.0.iter().map(|b| f32::from_le_bytes(*b))
    }

    /// Those of a range.
    pub fn part(self, range: Range<usize>) -> Values<'a> {
        Values(&self.0[range])
    }
}

/// A session with the way from a picture to its input.
pub struct Eye {
    session: Session,
    input: String,
    how: Preprocess,
    /// Height and width that the session is planned for.
    pub canvas: [usize; 2],
}

/// The three sessions, alive together.
pub struct Trio {
    /// Finds text.
    pub det: Eye,
    /// Tells which way up a line is.
    pub cls: Eye,
    /// Reads a line.
    pub rec: Eye,
    /// The recogniser's classes; the first is CTC's blank.
    pub characters: Vec<String>,
    /// Height and width of the detector's picture.
    pub map: [usize; 2],
    /// Height and greatest width of a line of text.
    pub line: [usize; 2],
    /// What was chosen, in the order det, cls, rec.
    pub models: Vec<Chosen>,
}

/// A model's rung, for people.
pub struct Chosen {
    name: String,
    rung: String,
    quality: Option<(String, f32)>,
    streamed: bool,
    shape: [usize; 2],
    weights: u64,
    arena: u64,
}

impl Trio {
    /// The largest picture for the detector, up to the limit, with which every model gets a rung worth running; on the
    /// smallest, whatever fits. The three sessions are made for the largest shapes that they will see, so nothing is
    /// asked of the budget afterwards.
    pub fn choose(
        device: &Arc<Device>,
        packs: &Packs,
        page: [usize; 2],
        limits: Limits,
    ) -> Result<Trio, Failure> {
        let Packs { det, cls, rec } = packs;
        let small = cls.size()?;
        let line = [rec.size()?[0], limits.width.next_multiple_of(MULTIPLE)];
        let mut sides: Vec<usize> = std::iter::successors(Some(limits.side), |s| Some(s * 7 / 8))
            .take_while(|s| *s >= LEAST_SIDE)
            .collect();
        if sides.is_empty() {
            sides.push(limits.side);
        }
        let last = sides.len() - 1;
        for (i, side) in sides.into_iter().enumerate() {
            let map = map_size(page, side);
            let shapes = [map, small, line];
            let models = [det, cls, rec];
            let specs: Vec<[InputSpec; 1]> = models.iter().zip(shapes).map(|(m, s)| [m.spec(s)]).collect();
            let members: Vec<Member<'_>> = models
                .iter()
                .zip(&specs)
                .zip([MOST_BYTES, 0, 0])
                .map(|((m, inputs), extra)| Member {
                    name: m.name,
                    model: &m.model,
                    inputs,
                    request: Request { available: m.pack.available(), extra, ..Request::default() },
                })
                .collect();
            let shares = match choose_together(device, &members) {
                Err(TogetherError::DoesNotFit { .. }) if i < last => continue,
                other => other?,
            };
            if i < last && !shares.iter().zip(models).all(|(share, m)| worth_running(share, m)) {
                continue;
            }
            let chosen = shares.iter().zip(models).zip(shapes).map(|((share, m), s)| Chosen::of(share, m, s));
            let chosen = chosen.collect();
            let mut eyes = shares.into_iter().zip(models).zip(shapes).map(|((share, m), canvas)| {
                let session = share.session(device, &m.model, &m.pack)?;
                Ok::<Eye, Failure>(Eye { session, input: m.input.clone(), how: m.how.clone(), canvas })
            });
            let mut next = || eyes.next().unwrap_or_else(|| unreachable!("a share for each of three models"));
            return Ok(Trio {
                det: next()?,
                cls: next()?,
                rec: next()?,
                characters: rec.characters()?,
                map,
                line,
                models: chosen,
            });
        }
        unreachable!("the last of at least one side returns")
    }
}

fn worth_running(share: &Share, model: &Packed) -> bool {
    let quality = model.model.header().rungs[share.rung].quality.as_ref();
    let good = quality.is_none_or(|q| q.metric != "sqnr_db" || q.value >= LEAST_DB);
    share.weighing == Weighing::Resident && good
}

/// Height and width that a detector sees of a page: the longer side at most `side`, both multiples of [`MULTIPLE`].
fn map_size(page: [usize; 2], side: usize) -> [usize; 2] {
    let scale = (side as f64 / page[0].max(page[1]) as f64).min(1.0);
    page.map(|n| ((n as f64 * scale / MULTIPLE as f64).round() as usize).max(1) * MULTIPLE)
}

impl Eye {
    /// Runs the model on a region scaled to `size` in the corner of a canvas; gives the first output's shape and
    /// elements. Another canvas than the last one's is planned anew, within the memory that the session has.
    pub fn look(
        &mut self,
        page: &Frame,
        region: Region,
        size: [usize; 2],
        canvas: [usize; 2],
    ) -> Result<(&[usize], Values<'_>), Failure> {
        if canvas != self.canvas {
            let dims = vec![1, 3, canvas[0], canvas[1]];
            let spec = InputSpec { name: self.input.clone(), dtype: DType::F32, dims, value: None };
            self.session.reshape(&[spec])?;
            self.canvas = canvas;
        }
        let mut written: Result<(), InputError> = Ok(());
        let (how, out) = (&self.how, &mut written);
        self.session.write_input(0, |bytes| *out = page.write(region, how, size, canvas, bytes))?;
        written?;
        self.session.run()?;
        let (operand, bytes) = self.session.output(0);
        Ok((&operand.dims, Values::new(bytes.as_chunks::<4>().0)))
    }
}

impl Chosen {
    fn of(share: &Share, model: &Packed, shape: [usize; 2]) -> Chosen {
        let rung = &model.model.header().rungs[share.rung];
        Chosen {
            name: share.name.clone(),
            rung: rung.id.clone(),
            quality: rung.quality.as_ref().map(|q| (q.metric.clone(), q.value)),
            streamed: share.weighing == Weighing::Streamed,
            shape,
            weights: share.need.weights,
            arena: share.need.arena,
        }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "rung": self.rung,
            "quality": self.quality.as_ref().map(|(metric, value)| json!({"metric": metric, "value": value})),
            "streamed": self.streamed,
            "shape": self.shape,
            "weights": self.weights,
            "arena": self.arena,
        })
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rung {}", self.name, self.rung)?;
        if let Some((metric, value)) = &self.quality {
            write!(f, " ({metric} {value:.1})")?;
        }
        let [height, width] = self.shape;
        write!(f, " for up to {height} x {width}: weights {:.1} MB", self.weights as f64 / 1e6)?;
        write!(f, "{}, arena {:.1} MB", if self.streamed { " streamed" } else { "" }, self.arena as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::map_size;

    #[test]
    fn the_longer_side_is_limited_and_both_are_multiples() {
        assert_eq!(map_size([700, 1000], 960), [672, 960]);
        assert_eq!(map_size([700, 1000], 320), [224, 320]);
        // Small pages are not enlarged; a thin one keeps a row of blocks.
        assert_eq!(map_size([100, 200], 960), [96, 192]);
        assert_eq!(map_size([5, 2000], 960), [32, 960]);
    }
}
