//! Which forms of sparse weights take no longer than all elements, by measurement.

use super::Structure;
use edge_runtime::pack::Acts;

/// Where kept blocks take less time than all of K.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakEven {
    /// Instruction set.
    pub isa: &'static str,
    /// Floats or integers.
    pub acts: Acts,
    /// Columns of a block.
    pub block: usize,
    /// Density below which they do, of products of 1, 4, 196 and 3136 rows; 0.85 is the greatest that was measured.
    pub density: [f64; 4],
}

/// Measured by `cargo bench -p edge-benches --bench sparse` with N = K = 1024 on an AMD EPYC of family 26 model 2 (Zen 5), one thread, of 8-bit
/// weights in planes (`benches/README.md`, "Sparse weights").
pub const BREAK_EVEN: [BreakEven; 12] = {
    const fn row(isa: &'static str, acts: Acts, block: usize, density: [f64; 4]) -> BreakEven {
        BreakEven { isa, acts, block, density }
    }
    [
        row("avx512", Acts::F32, 8, [0.85, 0.69, 0.72, 0.74]),
        row("avx512", Acts::F32, 4, [0.81, 0.59, 0.65, 0.65]),
        row("avx512", Acts::F32, 1, [0.59, 0.36, 0.47, 0.46]),
        row("avx512_vnni", Acts::I8, 8, [0.65, 0.54, 0.72, 0.72]),
        row("avx512_vnni", Acts::I8, 4, [0.59, 0.45, 0.64, 0.64]),
        row("avx512_vnni", Acts::I8, 1, [0.42, 0.22, 0.0, 0.0]),
        row("avx2", Acts::F32, 8, [0.85, 0.85, 0.85, 0.85]),
        row("avx2", Acts::F32, 4, [0.85, 0.85, 0.83, 0.85]),
        row("avx2", Acts::F32, 1, [0.77, 0.71, 0.67, 0.69]),
        row("avx2", Acts::I8, 8, [0.85, 0.85, 0.67, 0.65]),
        row("avx2", Acts::I8, 4, [0.83, 0.85, 0.64, 0.63]),
        row("avx2", Acts::I8, 1, [0.74, 0.76, 0.0, 0.0]),
    ]
};

/// Where weights that keep some of every few columns take no more time than all of K, by the same bench; with a bit an element they never do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FewEven {
    /// Instruction set.
    pub isa: &'static str,
    /// Floats or integers.
    pub acts: Acts,
    /// Share of the columns of a group up to which they do, of products of 1, 4, 196 and 3136 rows; half is the greatest that was measured.
    pub share: [f64; 4],
}

/// Measured as [`BREAK_EVEN`], of 2 of 4, 1 of 4 and 2 of 16 columns.
pub const FEW_EVEN: [FewEven; 4] = {
    const fn row(isa: &'static str, acts: Acts, share: [f64; 4]) -> FewEven {
        FewEven { isa, acts, share }
    }
    [
        row("avx512", Acts::F32, [0.25, 0.25, 0.25, 0.125]),
        row("avx512_vnni", Acts::I8, [0.5, 0.5, 0.125, 0.25]),
        row("avx2", Acts::F32, [0.125, 0.125, 0.25, 0.5]),
        row("avx2", Acts::I8, [0.0, 0.0, 0.0, 0.5]),
    ]
};

/// Whether products with the structure, of which they multiply so much of K ([`Cost::multiplied`]), take no more time than with all of K, on
/// both classes of CPU that were measured and for any number of rows that was. Such a form costs nothing but what is left out.
pub fn pays(structure: Structure, multiplied: f64, acts: Acts) -> bool {
    pays_for(structure, multiplied, acts, None)
}

/// As [`pays`], on the class of CPU named and for so many rows alone; `None` stands for all of them.
pub fn pays_for(structure: Structure, multiplied: f64, acts: Acts, one: Option<(&str, usize)>) -> bool {
    // The measured numbers of rows on both sides of the one wanted.
    const ROWS: [usize; 4] = [1, 4, 196, 3136];
    let fits = |isa: &str, most: &[f64; 4], of: f64| match one {
        None => most.iter().all(|most| of <= *most),
        Some((name, _)) if name != isa => true,
        Some((_, rows)) => {
            let above = ROWS.iter().position(|row| *row >= rows).unwrap_or(ROWS.len() - 1);
            let under = ROWS.iter().rposition(|row| *row <= rows).unwrap_or(0);
            of <= most[above] && of <= most[under]
        }
    };
    let known = |isa: &str| one.is_none_or(|(name, _)| name == isa);
    match structure {
        Structure::Blocks(block) => {
            let of = |row: &&BreakEven| row.acts == acts && row.block == block && known(row.isa);
            let mut rows = BREAK_EVEN.iter().filter(of).peekable();
            rows.peek().is_some() && rows.all(|row| fits(row.isa, &row.density, multiplied))
        }
        Structure::Few { keep, of } => {
            let share = keep as f64 / of as f64;
            let mut rows = FEW_EVEN.iter().filter(|row| row.acts == acts && known(row.isa)).peekable();
            rows.peek().is_some() && rows.all(|row| fits(row.isa, &row.share, share))
        }
        Structure::Bitmap => false,
    }
}
