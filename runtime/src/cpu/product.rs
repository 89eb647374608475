//! Products with a stored matrix: dense layers and convolutions.
//!
//! A weight is decoded panel by panel into scratch and used at once, so the matrix never exists as a whole. The
//! result is cut into tiles of row block x panel group; the cut depends on shapes alone, and K is never cut, so
//! the number of threads changes no bit.

use super::memory::Views;
use super::{Context, MatrixView, floats, matrix};
use crate::device::Scratch;
use crate::graph::Act;
use crate::plan::{ConvGeometry, Finish, Operand, Quant, Step};
use crate::weights::{CodeForm, CodesOut, PANEL, Weights};
use edge_kernels::MatMut;
use edge_kernels::cpu::activation::Activation;
use edge_kernels::cpu::gemm_f32::{Addend, Epilogue, Output, ResidualOrder, Rows, Scale};
use edge_kernels::cpu::gemm_i8::{I8Panels, I8Rows};
use edge_kernels::cpu::im2col::{ConvShape, im2col_rows};

/// Bytes of gathered rows that one worker holds: they stay in the L2 beside the panels.
const ROWS_BYTES: usize = 64 << 10;
/// Bytes of decoded panels that one worker holds.
const PANELS_BYTES: usize = 128 << 10;
/// Most rows of a block: enough work to hide the cut.
const MAX_ROWS: usize = 192;
/// A multiple of every kernel's row tile (6 and 3).
const ROW_STEP: usize = 6;

/// Rows of a block for products with `k` columns.
pub(crate) fn row_block(k: usize, integer: bool) -> usize {
    let bytes = k.max(1) * if integer { 1 } else { 4 };
    let rows = (ROWS_BYTES / bytes).clamp(ROW_STEP, MAX_ROWS);
    rows / ROW_STEP * ROW_STEP
}

/// How a weight's panels lie in scratch.
#[derive(Clone, Copy)]
pub(super) struct PanelLayout {
    /// Panels decoded together.
    pub panels: usize,
    codes: usize,
    groups: usize,
    pub bytes: usize,
}

pub(super) fn panel_layout(n: usize, k: usize, form: Option<CodeForm>) -> PanelLayout {
    let all = n.div_ceil(PANEL).max(1);
    match form {
        None => {
            let each = k * PANEL * 4;
            let panels = (PANELS_BYTES / each.max(1)).clamp(1, all);
            PanelLayout { panels, codes: 0, groups: 0, bytes: (panels * each).next_multiple_of(64) }
        }
        Some(form) => {
            let codes = k.div_ceil(8) * 8 * PANEL;
            let groups = k.div_ceil(form.group.max(1));
            let each = codes + groups * PANEL * 8;
            let panels = (PANELS_BYTES / each.max(1)).clamp(1, all);
            let bytes = (panels * codes).next_multiple_of(64) + panels * groups * PANEL * 8;
            PanelLayout { panels, codes, groups, bytes: bytes.next_multiple_of(64) }
        }
    }
}

/// Scratch bytes of one worker for decoding a weight; `form` is `Some` in integer mode.
pub(crate) fn panel_scratch(weights: &dyn Weights, form: Option<CodeForm>) -> usize {
    panel_layout(weights.n(), weights.k(), form).bytes
}

/// The kernels' name of an activation function.
pub(crate) fn activation(act: Act) -> Activation {
    match act {
        Act::None => Activation::None,
        Act::Relu => Activation::Relu,
        Act::Clip { lo, hi } => Activation::Clip { lo, hi },
        Act::LeakyRelu { alpha } => Activation::LeakyRelu { alpha },
        Act::HardSigmoid { alpha, beta } => Activation::HardSigmoid { alpha, beta },
        Act::HardSwish => Activation::HardSwish,
        Act::Sigmoid => Activation::Sigmoid,
        Act::Silu => Activation::Silu,
        Act::Tanh => Activation::Tanh,
        Act::Gelu => Activation::Gelu,
        Act::GeluTanh => Activation::GeluTanh,
    }
}

/// Scale, bias and residual of a whole product `[m, n]`, from which each tile takes its part.
pub(crate) struct Tail<'a> {
    pub scale: Option<&'a [f32]>,
    /// The scale of i8 activations, when they are.
    pub input_scale: Option<f32>,
    pub bias: Option<&'a [f32]>,
    pub residual: Option<(&'a [u8], Option<Quant>)>,
    pub finish: Finish,
    /// Row length of the residual.
    pub n: usize,
}

impl<'a> Tail<'a> {
    pub fn new(
        step: &'a Step,
        views: &Views<'a>,
        n: usize,
        finish: Finish,
        input: Option<Quant>,
    ) -> Tail<'a> {
        let residual = views.inputs[3].map(|r| (r, step.inputs[3].as_ref().and_then(|o| o.quant)));
        Tail {
            scale: views.inputs[1].map(floats),
            input_scale: input.map(|q| q.scale),
            bias: views.inputs[2].map(floats),
            residual,
            finish,
            n,
        }
    }

    /// The epilogue of the tile at (`row`, `col`) of `rows` x `cols`.
    pub fn part(&self, row: usize, col: usize, rows: usize, cols: usize) -> Epilogue<'a> {
        let scale = match (self.scale, self.input_scale) {
            (Some(scale), _) => Scale::PerColumn(&scale[col..col + cols]),
            (None, Some(scale)) => Scale::Uniform(scale),
            (None, None) => Scale::One,
        };
        let order = if self.finish.act_before_residual {
            ResidualOrder::AfterActivation
        } else {
            ResidualOrder::BeforeActivation
        };
        let residual = self.residual.map(|(bytes, quant)| {
            let addend = match quant {
                None => Addend::F32(Rows::new(&floats(bytes)[row * self.n + col..], rows, cols, self.n)),
                Some(q) => Addend::I8 {
                    rows: Rows::new(&super::elements(bytes)[row * self.n + col..], rows, cols, self.n),
                    scale: q.scale,
                    zero_point: q.zero_point,
                },
            };
            (addend, order)
        });
        let bias = self.bias.map(|b| &b[col..col + cols]);
        Epilogue { scale, bias, residual, act: activation(self.finish.act) }
    }
}

/// The rows that a product reads.
enum Source<'a> {
    /// `[m, k]` as they lie, so many elements apart.
    Rows(&'a [u8], usize),
    /// Windows of one image.
    Windows(ConvShape, &'a [u8]),
}

/// One product of rows with a matrix, or with the part of a matrix that belongs to one group of channels.
struct Product<'a> {
    source: Source<'a>,
    k: usize,
    /// First panel of the matrix.
    panel0: usize,
    /// Row of the whole result (for the residual) where this product starts.
    row0: usize,
    /// Column of the whole result where this product starts.
    col0: usize,
    matrix: &'a MatrixView<'a>,
    input: Option<Quant>,
    output: Option<Quant>,
    tail: &'a Tail<'a>,
}

pub(crate) fn gemm(
    ctx: &Context<'_>,
    step: &Step,
    mut views: Views<'_>,
    m: usize,
    n: usize,
    k: usize,
    finish: Finish,
) -> Result<(), String> {
    let matrix = matrix(ctx, step, &views, 0)?;
    let x = views.inputs[0].unwrap_or_default();
    let (input, output) = (quant_of(&step.inputs[0]), step.outputs[0].quant);
    let (pitch_in, pitch_out) = pitches(step, k, n);
    let tail = Tail::new(step, &views, n, finish, input);
    let product = Product {
        source: Source::Rows(x, pitch_in),
        k,
        panel0: 0,
        row0: 0,
        col0: 0,
        matrix: &matrix,
        input,
        output,
        tail: &tail,
    };
    let scratch = Scratch::new(std::mem::take(&mut views.scratch), ctx.pool.threads());
    let [out, ..] = views.outputs;
    product.run_bytes(ctx, out, m, n, pitch_out, &scratch);
    Ok(())
}

pub(crate) fn conv(
    ctx: &Context<'_>,
    step: &Step,
    mut views: Views<'_>,
    g: &ConvGeometry,
    finish: Finish,
) -> Result<(), String> {
    let matrix = matrix(ctx, step, &views, 0)?;
    let x = views.inputs[0].unwrap_or_default();
    let (input, output) = (quant_of(&step.inputs[0]), step.outputs[0].quant);
    let tail = Tail::new(step, &views, g.oc, finish, input);
    let scratch = Scratch::new(std::mem::take(&mut views.scratch), ctx.pool.threads());
    let [out, ..] = views.outputs;
    let (ic, oc) = (g.ic / g.groups, g.oc / g.groups);
    let (pixels, element_in, element_out) = (g.oh * g.ow, element(input), element(output));
    let (pitch_in, pitch_out) = pitches(step, g.ic, g.oc);
    let image = g.ih * g.iw * pitch_in * element_in;
    for batch in 0..g.batch {
        for group in 0..g.groups {
            let shape = ConvShape {
                ih: g.ih,
                iw: g.iw,
                ic,
                pixel_stride: pitch_in,
                channel_offset: group * ic,
                kh: g.kernel[0],
                kw: g.kernel[1],
                stride_h: g.stride[0],
                stride_w: g.stride[1],
                dil_h: g.dilation[0],
                dil_w: g.dilation[1],
                pad_top: g.pad_top,
                pad_left: g.pad_left,
                oh: g.oh,
                ow: g.ow,
            };
            let product = Product {
                source: Source::Windows(shape, &x[batch * image..x.len().min((batch + 1) * image)]),
                k: shape.k(),
                panel0: group * oc.div_ceil(PANEL),
                row0: batch * pixels,
                col0: group * oc,
                matrix: &matrix,
                input,
                output,
                tail: &tail,
            };
            let from = (batch * pixels * pitch_out + group * oc) * element_out;
            let to = out.len().min((batch + 1) * pixels * pitch_out * element_out);
            product.run_bytes(ctx, &mut out[from..to], pixels, oc, pitch_out, &scratch);
        }
    }
    Ok(())
}

/// Elements between the rows of a product's operand (`cols` wide) and of its result (`n` wide).
pub(super) fn pitches(step: &Step, cols: usize, n: usize) -> (usize, usize) {
    let input = step.inputs[0].as_ref().map_or(cols, |o| o.row_pitch(cols));
    (input, step.outputs[0].row_pitch(n))
}

fn quant_of(operand: &Option<Operand>) -> Option<Quant> {
    operand.as_ref().and_then(|o| o.quant)
}

fn element(quant: Option<Quant>) -> usize {
    if quant.is_some() { 1 } else { 4 }
}

impl Product<'_> {
    /// Runs the product into `m` rows of `n` elements, `stride` apart.
    fn run_bytes(
        &self,
        ctx: &Context<'_>,
        out: &mut [u8],
        m: usize,
        n: usize,
        stride: usize,
        scratch: &Scratch<'_, u8>,
    ) {
        if m == 0 || n == 0 {
            return;
        }
        let form = match (self.matrix, self.input) {
            (MatrixView::Weights(w), Some(_)) => w.code_form(),
            _ => None,
        };
        let layout = panel_layout(n, self.k, form);
        let (rows, cols) = (row_block(self.k, self.input.is_some()), layout.panels * PANEL);
        match self.output {
            None => {
                let mat = MatMut::new(super::floats_mut(out), m, n, stride);
                ctx.pool.tiles(mat, rows, cols, |worker, r, c, tile| {
                    self.tile(ctx, form, layout, &mut scratch.slot(worker), r, c, Output::F32(tile));
                });
            }
            Some(q) => {
                let mat = MatMut::new(super::elements_mut(out), m, n, stride);
                let inv_scale = 1.0 / q.scale;
                ctx.pool.tiles(mat, rows, cols, |worker, r, c, out| {
                    let out = Output::I8 { out, inv_scale, zero_point: q.zero_point };
                    self.tile(ctx, form, layout, &mut scratch.slot(worker), r, c, out);
                });
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // one tile of the loop above
    fn tile(
        &self,
        ctx: &Context<'_>,
        form: Option<CodeForm>,
        layout: PanelLayout,
        slot: &mut [u8],
        row: usize,
        col: usize,
        out: Output<'_>,
    ) {
        let (rows, cols) = (out.rows(), out.cols());
        let first = self.panel0 + col / PANEL;
        let panels = first..first + cols.div_ceil(PANEL);
        let epilogue = self.tail.part(self.row0 + row, self.col0 + col, rows, cols);
        let decoded = match self.matrix {
            MatrixView::Weights(_) => layout.bytes,
            MatrixView::Panels(_) => 0,
        };
        let (panel_area, row_area) = slot.split_at_mut(decoded);
        match (self.input, form) {
            (Some(input), Some(form)) => {
                let MatrixView::Weights(w) = self.matrix else { return };
                let count = panels.len();
                let (codes, rest) =
                    panel_area.split_at_mut((layout.panels * layout.codes).next_multiple_of(64));
                let (scales, sums) = rest.split_at_mut(layout.panels * layout.groups * PANEL * 4);
                let codes: &mut [i8] = &mut super::elements_mut(codes)[..count * layout.codes];
                let scales = &mut super::floats_mut(scales)[..count * layout.groups * PANEL];
                let sums = &mut super::elements_mut::<i32>(sums)[..count * layout.groups * PANEL];
                w.fill_codes(panels, CodesOut { codes, scales, sums });
                let weights = I8Panels {
                    codes,
                    scales,
                    colsum: sums,
                    k: self.k,
                    group: form.group,
                    half_offset: form.half_offset,
                    code_bits: form.bits,
                };
                let (gathered, sums) = self.rows_area(row_area, 1);
                let a: Rows<'_, i8> =
                    self.rows(row, rows, input.zero_point as i8, super::elements_mut(gathered));
                let sums = &mut super::elements_mut::<i32>(sums)[..rows * layout.groups];
                ctx.kernels.gemm_i8.row_sums(a, form.group, sums);
                let x = I8Rows { rows: a, zero_point: input.zero_point, row_sums: sums };
                ctx.kernels.gemm_i8.run(out, x, &weights, &epilogue);
            }
            _ => {
                let (gathered, _) = self.rows_area(row_area, 4);
                let a: Rows<'_, f32> = self.rows(row, rows, 0.0, super::floats_mut(gathered));
                let each = self.k * PANEL;
                let weights: &[f32] = match self.matrix {
                    MatrixView::Panels(all) => &all[panels.start * each..panels.end * each],
                    MatrixView::Weights(w) => match w.borrow_f32(panels.clone()) {
                        Some(stored) => stored,
                        None => {
                            let area = &mut super::floats_mut(panel_area)[..panels.len() * each];
                            w.fill_f32(panels, area);
                            area
                        }
                    },
                };
                ctx.kernels.gemm_f32.run(out, a, weights, &epilogue);
            }
        }
    }

    /// The part of the row scratch that holds gathered windows, and what follows it.
    fn rows_area<'s>(&self, area: &'s mut [u8], element: usize) -> (&'s mut [u8], &'s mut [u8]) {
        let gathered = match self.source {
            Source::Rows(..) => 0,
            Source::Windows(..) => (row_block(self.k, element == 1) * self.k * element).next_multiple_of(64),
        };
        area.split_at_mut(gathered)
    }

    /// Rows `[row, row + rows)` of the left matrix: where they lie, or gathered into scratch.
    fn rows<'s, T: bytemuck::Pod>(
        &'s self,
        row: usize,
        rows: usize,
        pad: T,
        gathered: &'s mut [T],
    ) -> Rows<'s, T> {
        match &self.source {
            Source::Rows(bytes, pitch) => {
                let all: &[T] = super::elements(bytes);
                Rows::new(&all[row * pitch..], rows, self.k, *pitch)
            }
            Source::Windows(shape, image) => {
                let out = &mut gathered[..rows * self.k];
                im2col_rows(shape, super::elements(image), row, rows, pad, out, self.k);
                Rows::new(out, rows, self.k, self.k)
            }
        }
    }
}
