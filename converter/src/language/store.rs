//! Tensors of a file as weight expressions, some rows at a time: no matrix is in memory as floats, or twice.

use crate::draft::{Draft, to_f32};
use crate::error::ConvertError;
use crate::import::ImportError;
use crate::import::gguf::blocks::Block;
use crate::import::gguf::{Codes, Form, Kind};
use crate::import::language::{ModelFile, Part, Rows, Weight};
use edge_runtime::graph::DType;
use edge_runtime::pack::{Expr, Tensor};
use edge_runtime::weights::Float;
use edge_runtime::weights::dense::{self, EncodedDense};
use edge_runtime::weights::planes::{self, Layout};
use std::ops::Range;

/// What the names of minima end with.
pub const MINIMA: &str = "/minima";
/// Elements that are decoded at a time, in whole panels of rows.
const AT_ONCE: usize = 1 << 20;
/// Rows of a panel.
const PANEL: usize = 16;
/// A scale of scales is rounded to f16 where that changes no number by more than this part of it, as f16 does to its normal numbers,
const NEAR: f32 = 1.0 / 2048.0;
/// or by more than this part of the tensor's largest.
const SMALL: f32 = 1.0 / 65536.0;

/// Stores a matrix.
///
/// # Errors
/// When an element is not finite.
pub fn tensor(draft: &mut Draft, file: &dyn ModelFile, weight: &Weight) -> Result<Tensor, ConvertError> {
    let source = Source::new(file, weight)?;
    let (expr, blobs) = match (weight.part, source.kind.form) {
        (Part::Floats, Form::Floats(dtype)) => source.floats(dtype)?,
        (Part::Codes, Form::Codes(codes)) => source.codes(&codes)?,
        (Part::Minima, Form::Codes(codes)) => source.minima(&codes)?,
        _ => return Err(source.wrong("is no such matrix".into())),
    };
    let blobs = blobs.into_iter().map(|bytes| draft.blob(bytes)).collect();
    let name = match weight.part {
        Part::Minima => format!("{}{MINIMA}", weight.name),
        _ => weight.name.clone(),
    };
    Ok(Tensor { name, n: weight.n, k: weight.k, roots: vec![Expr { blobs, ..expr }] })
}

/// The numbers of a matrix, row-major `[n, k]`, whatever the file has for them.
///
/// # Errors
/// When an element is not finite.
pub fn values(file: &dyn ModelFile, weight: &Weight) -> Result<Vec<f32>, ConvertError> {
    let source = Source::new(file, weight)?;
    let mut values = Vec::with_capacity(weight.n * weight.k);
    for rows in source.spans() {
        for r in rows.clone() {
            match &source.kind.form {
                Form::Codes(codes) => source.blocks(r, codes, |_, block| {
                    let groups = groups(codes, source.kind, block);
                    for ((scale, minimum), codes) in groups.zip(block.codes.chunks(codes.group)) {
                        values.extend(codes.iter().map(|code| f32::from(*code) * scale + minimum));
                    }
                }),
                Form::Floats(dtype) => values.extend(to_f32(*dtype, source.row(r))),
                Form::Other => return Err(source.wrong("is no such matrix".into())),
            }
        }
        source.let_go(&rows);
    }
    if values.len() != weight.n * weight.k {
        return Err(source.wrong(format!("{} elements of [{}, {}]", values.len(), weight.n, weight.k)));
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => {
            let row = weight.rows.of(at / weight.k);
            let why = format!("row {row}, column {} is {}: the file is damaged", at % weight.k, values[at]);
            Err(source.wrong(why))
        }
        None => Ok(values),
    }
}

/// An expression without its blobs, and these.
type Stored = (Expr, Vec<Vec<u8>>);

/// A matrix in its file.
struct Source<'a> {
    file: &'a dyn ModelFile,
    weight: &'a Weight,
    kind: &'static Kind,
    /// Elements of a row of the tensor.
    width: usize,
    bytes: &'a [u8],
}

impl<'a> Source<'a> {
    fn new(file: &'a dyn ModelFile, weight: &'a Weight) -> Result<Source<'a>, ImportError> {
        let missing = || file.wrong(&weight.tensor, "missing".into());
        let stored = file.stored(&weight.tensor).ok_or_else(missing)?;
        let width = stored.dims.last().copied().unwrap_or_default();
        Ok(Source { file, weight, kind: stored.kind, width, bytes: stored.bytes })
    }

    fn wrong(&self, why: String) -> ConvertError {
        self.file.wrong(&self.weight.tensor, why).into()
    }

    /// Rows that are decoded at a time: whole panels, and with the last of them what is left.
    fn spans(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (n, step) = (self.weight.n, (AT_ONCE / self.width.max(1)).next_multiple_of(PANEL).max(PANEL));
        let count = (n / step).max(1);
        (0..count).map(move |i| i * step..if i + 1 == count { n } else { (i + 1) * step })
    }

    /// The bytes of the tensor's row that row `r` of the matrix is.
    fn row(&self, r: usize) -> &'a [u8] {
        let len = self.width / self.kind.elements * self.kind.bytes;
        let at = self.weight.rows.of(r) * len;
        self.bytes.get(at..at + len).unwrap_or_default()
    }

    /// Lets the memory behind rows go that were read.
    fn let_go(&self, rows: &Range<usize>) {
        let len = self.width / self.kind.elements * self.kind.bytes;
        let first = if let Rows::From { first, .. } = self.weight.rows { first } else { 0 };
        let bytes = self.bytes.get((first + rows.start) * len..(first + rows.end) * len);
        self.file.let_go(bytes.unwrap_or_default());
    }

    /// Decodes the blocks of a row: `see` gets each with the column that it begins at.
    fn blocks(&self, r: usize, codes: &Codes, mut see: impl FnMut(usize, &Block)) {
        let mut block = Block::default();
        for (i, bytes) in self.row(r).chunks_exact(self.kind.bytes).enumerate() {
            (codes.decode)(bytes, &mut block);
            see(i * self.kind.elements, &block);
        }
    }

    /// Checks that every number of each group is finite, and finds the narrowest float that scales can be stored in, and minima.
    fn widths(&self, codes: &Codes) -> Result<[Float; 2], ConvertError> {
        let unit = unit(codes);
        let mut worst = None;
        let mut fits = [Fit::default(); 2];
        for rows in self.spans() {
            for r in rows.clone() {
                self.blocks(r, codes, |column, block| {
                    for (g, (scale, minimum)) in groups(codes, self.kind, block).enumerate() {
                        let stored = scale * unit;
                        if !(stored.is_finite() && minimum.is_finite()) {
                            worst = worst.or(Some((r, column + g * codes.group, scale, minimum)));
                        }
                        fits[0].add(stored, codes.scaled_scales);
                        fits[1].add(centre(codes, scale, minimum), codes.scaled_scales);
                    }
                });
            }
            self.let_go(&rows);
        }
        if let Some((row, column, scale, minimum)) = worst {
            let minimum = if codes.minima { format!(", its minimum {minimum}") } else { String::new() };
            let row = self.weight.rows.of(row);
            return Err(self.wrong(format!(
                "the scale of row {row}, columns from {column} on, is {scale}{minimum}; finite numbers are expected: the file is damaged"
            )));
        }
        Ok(fits.map(|fit| fit.float()))
    }

    /// Appends the blobs of further rows, which are read.
    fn append(
        &self,
        made: &mut Option<Stored>,
        rows: &Range<usize>,
        blobs: Vec<Vec<u8>>,
        expr: impl FnOnce() -> Expr,
    ) {
        let (_, all) = made.get_or_insert_with(|| (expr(), vec![Vec::new(); blobs.len()]));
        for (all, blob) in all.iter_mut().zip(blobs) {
            if all.capacity() == 0 {
                // All rows take as much as these, and what pads the last panel.
                all.reserve_exact(blob.len() / rows.len() * (self.weight.n + PANEL));
            }
            all.extend(blob);
        }
        self.let_go(rows);
    }

    fn layout(&self) -> Layout {
        if self.weight.product { Layout::Panel } else { Layout::Rows }
    }

    fn codes(&self, codes: &Codes) -> Result<Stored, ConvertError> {
        let [scale, _] = self.widths(codes)?;
        let bits: &[u32] = match codes.bits {
            2 => &[2],
            3 => &[1, 2],
            4 => &[2, 2],
            5 => &[1, 4],
            6 => &[2, 2, 2],
            _ => &[2, 2, 2, 2],
        };
        // Unsigned codes lie around half their range.
        let middle = if codes.minima { 1 << (codes.bits - 1) } else { 0 };
        let k = self.weight.k;
        let mut made: Option<Stored> = None;
        for rows in self.spans() {
            let mut stored = Vec::with_capacity(rows.len() * k);
            let mut scales = Vec::with_capacity(rows.len() * k.div_ceil(codes.group));
            for r in rows.clone() {
                self.blocks(r, codes, |_, block| {
                    stored.extend(block.codes[..self.kind.elements].iter().map(|code| code - middle));
                    scales.extend(groups(codes, self.kind, block).map(|(scale, _)| scale));
                });
            }
            let integers = planes::Integers {
                codes: &stored,
                group: codes.group,
                scales: &scales,
                zeros: &[],
                half_offset: codes.minima,
                scale,
            };
            let (blobs, params) = planes::encode_integers(&integers, rows.len(), k, bits, self.layout())
                .map_err(|e| self.wrong(e.to_string()))?;
            self.append(&mut made, &rows, blobs, || Expr {
                kind: "planes".into(),
                params,
                args: Vec::new(),
                blobs: Vec::new(),
            });
        }
        made.ok_or_else(|| self.wrong("no rows".into()))
    }

    fn minima(&self, codes: &Codes) -> Result<Stored, ConvertError> {
        let [_, dtype] = self.widths(codes)?;
        self.dense(dtype, |r, out| {
            self.blocks(r, codes, |_, block| {
                out.extend(
                    groups(codes, self.kind, block).map(|(scale, minimum)| centre(codes, scale, minimum)),
                );
            });
        })
    }

    fn floats(&self, dtype: DType) -> Result<Stored, ConvertError> {
        let float = match dtype {
            DType::F16 => Float::F16,
            DType::Bf16 => Float::Bf16,
            _ => Float::F32,
        };
        self.dense(float, |r, out| out.extend(to_f32(dtype, self.row(r))))
    }

    /// Floats as they are, a row at a time from `row`.
    fn dense(&self, dtype: Float, row: impl Fn(usize, &mut Vec<f32>)) -> Result<Stored, ConvertError> {
        let k = self.weight.k;
        let layout = if self.weight.product { dense::Layout::Panel } else { dense::Layout::Rows };
        let mut made: Option<Stored> = None;
        for rows in self.spans() {
            let mut values = Vec::with_capacity(rows.len() * k);
            rows.clone().for_each(|r| row(r, &mut values));
            // Looked for here: once the rows are let go, they would be read again.
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let place = (rows.start + at / k.max(1), at % k.max(1));
                return Err(self.wrong(format!("element {place:?} is not finite: the file is damaged")));
            }
            let encoded = dense::encode(&values, rows.len(), k, dtype, layout)
                .map_err(|e| self.wrong(e.to_string()))?;
            let EncodedDense { blob, .. } = encoded;
            let expr = || EncodedDense { blob: Vec::new(), dtype, layout }.expr(0);
            self.append(&mut made, &rows, vec![blob], expr);
        }
        made.ok_or_else(|| self.wrong("no rows".into()))
    }
}

/// Scale and minimum of each group of a block.
fn groups<'b>(codes: &Codes, kind: &Kind, block: &'b Block) -> impl Iterator<Item = (f32, f32)> + use<'b> {
    let pairs = block.scales.iter().copied().zip(block.minima.iter().copied());
    pairs.take(kind.elements.div_ceil(codes.group))
}

/// What planes multiply a scale by.
fn unit(codes: &Codes) -> f32 {
    (1u32 << (codes.bits - 1)) as f32
}

/// What codes that lie evenly around 0 leave of a group: the middle of its range.
fn centre(codes: &Codes, scale: f32, minimum: f32) -> f32 {
    let middle = f64::from((1u32 << codes.bits) - 1) / 2.0;
    (f64::from(minimum) + f64::from(scale) * middle) as f32
}

/// How numbers suit f16.
#[derive(Clone, Copy, Default)]
struct Fit {
    most: f32,
    /// The largest difference of those that f16 does not hold as well as its normal numbers.
    far: f32,
    /// Whether one is past f16.
    past: bool,
}

impl Fit {
    fn add(&mut self, value: f32, may_round: bool) {
        let error = (half::f16::from_f32(value).to_f32() - value).abs();
        self.most = self.most.max(value.abs());
        self.past |= !error.is_finite();
        if error > if may_round { NEAR * value.abs() } else { 0.0 } {
            self.far = if may_round { self.far.max(error) } else { f32::INFINITY };
        }
    }

    fn float(&self) -> Float {
        if !self.past && self.far <= SMALL * self.most { Float::F16 } else { Float::F32 }
    }
}
