//! The command line.

use clap::Parser;
use edge_runtime::device::ByteSize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  ocr --det det.pack --cls cls.pack --rec rec.pack --mem 48MB page.png
  ocr --det det.pack --cls cls.pack --rec rec.pack --mem 96MB --json page.png

Exit codes: 0 ok, 1 internal, 2 usage, 4 bad or missing file, 5 does not fit the memory, 6 device or I/O.";

/// Reads the lines of text of a page, upright or upside down.
#[derive(Debug, Parser)]
#[command(name = "ocr", version, after_help = EXAMPLES)]
pub struct Args {
    /// The picture: .png, .jpg or .bmp.
    pub page: PathBuf,
    /// Pack of the text detector (PP-OCR det).
    #[arg(long, value_name = "PACK")]
    pub det: PathBuf,
    /// Pack of the angle classifier (PP-OCR cls).
    #[arg(long, value_name = "PACK")]
    pub cls: PathBuf,
    /// Pack of the text recogniser (PP-OCR rec).
    #[arg(long, value_name = "PACK")]
    pub rec: PathBuf,
    /// Memory for the whole process, such as 64MB (10^6) or 64MiB (2^20) [default: what the system allows].
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<ByteSize>,
    /// The most pixels of the longer side that the detector sees; less where the memory asks for it.
    #[arg(long, value_name = "PIXELS", default_value_t = 960, value_parser = pixels)]
    pub side: usize,
    /// The most columns of a line of text, scaled to the recogniser's height; longer lines are squeezed.
    #[arg(long, value_name = "PIXELS", default_value_t = 960, value_parser = pixels)]
    pub width: usize,
    /// Worker threads [default: the CPUs that the system grants].
    #[arg(short, long, value_name = "N")]
    pub threads: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Within what a network of five halvings can use and a planner will take.
fn pixels(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (32..=8192).contains(&n) => Ok(n),
        _ => Err("expected a number from 32 to 8192".into()),
    }
}
