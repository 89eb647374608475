//! Pictures of every form against the `image` crate, which reads them by another path; hostile and cut files.

use super::read_picture;
use crate::inputs::InputError;
use crate::pack::{Colour, ImageLayout, Preprocess};
use crate::random::philox;
use image::imageops::FilterType;
use image::{DynamicImage, GrayAlphaImage, GrayImage, RgbImage, RgbaImage};
use std::path::{Path, PathBuf};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("edge-picture-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind in the temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read(path: &Path, colour: Colour, size: [usize; 2], limit: u64) -> Result<Vec<u8>, InputError> {
    let how = Preprocess::Image {
        colour,
        layout: ImageLayout::Nhwc,
        mean: vec![],
        std: vec![],
        size: None,
        multiple: None,
    };
    let array = read_picture(path, "x", &how, size.map(Some), limit)?;
    let floats = array.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
    Ok(floats.map(|f| f as u8).collect())
}

/// What the `image` crate makes of a file.
fn expected(path: &Path, colour: Colour, [height, width]: [usize; 2]) -> Vec<u8> {
    let picture = image::open(path).unwrap();
    let resize = |p: DynamicImage| p.resize_exact(width as u32, height as u32, FilterType::Triangle);
    let rgb = |p: DynamicImage| resize(DynamicImage::ImageRgb8(p.into_rgb8())).into_rgb8().into_raw();
    match colour {
        Colour::Grey => resize(DynamicImage::ImageLuma8(picture.into_luma8())).into_luma8().into_raw(),
        Colour::Rgb => rgb(picture),
        Colour::Bgr => {
            let mut raw = rgb(picture);
            raw.as_chunks_mut::<3>().0.iter_mut().for_each(|p| p.swap(0, 2));
            raw
        }
    }
}

fn agrees(path: &Path, [height, width]: [usize; 2], off_by: u8) {
    for colour in [Colour::Grey, Colour::Rgb, Colour::Bgr] {
        for size in [[height, width], [17, 23], [2 * height + 1, 3 * width], [1, 1]] {
            let got = read(path, colour, size, 1 << 30).unwrap();
            let want = expected(path, colour, size);
            assert_eq!(got.len(), want.len(), "{} {colour:?} {size:?}", path.display());
            let worst = got.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            // Luma is rounded from integers here and from floats there.
            let off_by = if colour == Colour::Grey { off_by.max(1) } else { off_by };
            assert!(worst <= off_by, "{} {colour:?} {size:?}: off by {worst}", path.display());
        }
    }
}

/// A picture with edges, slopes and noise.
fn samples(height: usize, width: usize, channels: usize) -> Vec<u8> {
    let sample = |i: usize| {
        let (x, y, c) = (i / channels % width, i / channels / width, i % channels);
        let noise = philox(7, i as u64)[0] as usize % 40;
        ((3 * x + 5 * y * (c + 1) + if x > y { 90 } else { 0 } + noise) % 256) as u8
    };
    (0..height * width * channels).map(sample).collect()
}

fn forms(h: usize, w: usize) -> Vec<(&'static str, DynamicImage)> {
    let (wide, high) = (w as u32, h as u32);
    let rgb = RgbImage::from_raw(wide, high, samples(h, w, 3)).unwrap();
    let rgba = RgbaImage::from_raw(wide, high, samples(h, w, 4)).unwrap();
    let grey = GrayImage::from_raw(wide, high, samples(h, w, 1)).unwrap();
    let alpha = GrayAlphaImage::from_raw(wide, high, samples(h, w, 2)).unwrap();
    let wider = |p: DynamicImage| DynamicImage::ImageRgb16(p.into_rgb16());
    vec![
        ("rgb16", wider(rgb.clone().into())),
        ("grey16", DynamicImage::ImageLuma16(DynamicImage::from(grey.clone()).into_luma16())),
        ("rgb", rgb.into()),
        ("rgba", rgba.into()),
        ("grey", grey.into()),
        ("greya", alpha.into()),
    ]
}

#[test]
fn every_form_is_read_as_the_image_crate_reads_it() {
    let folder = Folder::new("forms");
    for [h, w] in [[37, 41], [16, 64], [1, 1]] {
        for (name, picture) in forms(h, w) {
            let mut files = vec![("png", 0)];
            if !name.contains("16") {
                files.extend((!name.contains("greya")).then_some(("bmp", 0)));
                files.extend((!name.ends_with('a')).then_some(("jpg", 0)));
            }
            for (extension, off_by) in files {
                let path = folder.0.join(format!("{name}-{h}x{w}.{extension}"));
                picture.save(&path).unwrap();
                agrees(&path, [h, w], off_by);
            }
        }
    }
}

/// A PNG of the given header fields over `rows`, each with its filter byte, in one stored block.
fn png(width: u32, height: u32, [depth, form, interlaced]: [u8; 3], palette: &[u8], rows: &[u8]) -> Vec<u8> {
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, byte| {
            let step = |c: u32, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
            (0..8).fold(crc ^ u32::from(*byte), step)
        })
    }
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        file.extend((data.len() as u32).to_be_bytes());
        let body = [kind, data].concat();
        file.extend(&body);
        file.extend(crc(&body).to_be_bytes());
    };
    let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
    chunk(b"IHDR", &[&sides[..], &[depth, form, 0, 0, interlaced]].concat());
    if !palette.is_empty() {
        chunk(b"PLTE", palette);
    }
    let len = rows.len() as u16;
    let (a, b) = rows.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    });
    let check = (b << 16 | a).to_be_bytes();
    let stored = [&[0x78, 1, 1][..], &len.to_le_bytes(), &(!len).to_le_bytes(), rows, &check].concat();
    chunk(b"IDAT", &stored);
    chunk(b"IEND", &[]);
    file
}

#[test]
fn palettes_few_bits_and_interlaced_rows_are_read() {
    let folder = Folder::new("png");
    let (h, w) = (11usize, 13usize);
    let check = |name: &str, bytes: Vec<u8>| {
        let path = folder.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        agrees(&path, [h, w], 0);
    };
    let noise = |n: usize| -> Vec<u8> { (0..n).map(|i| philox(3, i as u64)[0] as u8).collect() };
    let rows = |row: usize, height: usize| -> Vec<u8> {
        noise(row * height).chunks(row).flat_map(|r| [&[0], r].concat()).collect()
    };
    let palette: Vec<u8> = (0..48).map(|i| (i * 5) as u8).collect();
    for depth in [1, 2, 4] {
        let row = (w * usize::from(depth)).div_ceil(8);
        check(&format!("grey{depth}.png"), png(13, 11, [depth, 0, 0], &[], &rows(row, h)));
        let form = png(13, 11, [depth, 3, 0], &palette[..3 << depth], &rows(row, h));
        check(&format!("palette{depth}.png"), form);
    }
    // The seven passes: first column and row, and the steps between them.
    let passes =
        [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)];
    for (form, samples) in [(0, 1), (2, 3), (6, 4)] {
        let pass = |(x, y, dx, dy): (usize, usize, usize, usize)| {
            rows(samples * w.saturating_sub(x).div_ceil(dx), h.saturating_sub(y).div_ceil(dy))
        };
        let all: Vec<u8> = passes.into_iter().flat_map(pass).collect();
        check(&format!("interlaced{form}.png"), png(13, 11, [8, form, 1], &[], &all));
    }
}

/// A BMP with a 40-byte header.
fn bmp(sides: [i32; 2], bits: u16, compression: u32, tables: &[u8], pixels: &[u8]) -> Vec<u8> {
    let start = 54 + tables.len() as u32;
    let mut file = b"BM".to_vec();
    for field in [start + pixels.len() as u32, 0, start, 40, sides[0] as u32, sides[1] as u32] {
        file.extend(field.to_le_bytes());
    }
    file.extend([1u16.to_le_bytes(), bits.to_le_bytes()].concat());
    for field in [compression, 0, 0, 0, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    [&file[..], tables, pixels].concat()
}

#[test]
fn bmp_of_every_depth_is_read() {
    let folder = Folder::new("bmp");
    let (h, w) = (7usize, 13usize);
    let noise: Vec<u8> = (0..4 * h * w + 64).map(|i| philox(9, i as u64)[0] as u8).collect();
    let palette: Vec<u8> = (0..1024).map(|i| (i * 37 % 251) as u8).collect();
    let masks: Vec<u8> = [0xf800u32, 0x07e0, 0x001f].iter().flat_map(|m| m.to_le_bytes()).collect();
    let forms: [(&str, u16, u32, &[u8]); 7] = [
        ("1", 1, 0, &palette[..8]),
        ("4", 4, 0, &palette[..64]),
        ("8", 8, 0, &palette[..]),
        ("16", 16, 0, &[]),
        ("565", 16, 3, &masks),
        ("24", 24, 0, &[]),
        ("32", 32, 0, &[]),
    ];
    for (name, bits, compression, tables) in forms {
        for high in [h as i32, -(h as i32)] {
            let stride = (w * usize::from(bits)).div_ceil(32) * 4;
            let file = bmp([w as i32, high], bits, compression, tables, &noise[..stride * h]);
            let path = folder.0.join(format!("{name}{high}.bmp"));
            std::fs::write(&path, file).unwrap();
            // Five bits are spread over 0 to 255 by the nearest value here, by a table there.
            agrees(&path, [h, w], u8::from(bits == 16));
        }
    }
    let run_length = folder.0.join("rle.bmp");
    std::fs::write(&run_length, bmp([13, 7], 8, 1, &palette, &noise)).unwrap();
    let error = read(&run_length, Colour::Rgb, [7, 13], 1 << 20).unwrap_err();
    assert!(error.to_string().contains("compression 1 with 8 bits a pixel is not read"), "{error}");
}

#[test]
fn a_picture_beyond_the_limit_is_refused_by_its_head() {
    let folder = Folder::new("limit");
    let path = folder.0.join("large.bmp");
    // The pixels are not there: the head is enough.
    std::fs::write(&path, bmp([4000, 3000], 24, 0, &[], &[])).unwrap();
    assert!(matches!(read(&path, Colour::Rgb, [8, 8], 24_000_000), Err(InputError::TooLarge { .. })));
    let path = folder.0.join("large.png");
    std::fs::write(&path, png(u32::MAX >> 1, u32::MAX >> 1, [8, 2, 0], &[], &[])).unwrap();
    assert!(matches!(read(&path, Colour::Rgb, [8, 8], 24_000_000), Err(InputError::TooLarge { .. })));
    let path = folder.0.join("large.jpg");
    RgbImage::new(3000, 2000).save(&path).unwrap();
    assert!(matches!(read(&path, Colour::Rgb, [8, 8], 16_000_000), Err(InputError::TooLarge { .. })));
    assert!(read(&path, Colour::Rgb, [8, 8], 24_000_000).is_ok());
}

#[test]
fn cut_and_scrambled_files_are_errors_or_pictures_never_a_panic() {
    let folder = Folder::new("hostile");
    let picture = DynamicImage::from(RgbImage::from_raw(24, 18, samples(18, 24, 3)).unwrap());
    for extension in ["png", "jpg", "bmp"] {
        let path = folder.0.join(format!("x.{extension}"));
        picture.save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            // A viewer shows what it has of a JPEG; the other two must be whole.
            let read = read(&path, Colour::Rgb, [18, 24], 1 << 20);
            let trailer = extension == "png" && len >= whole.len() - 16;
            assert!(read.is_err() || extension == "jpg" || trailer, "{extension} cut at {len}");
        }
        for i in 0..400 {
            let [at, byte, more, _] = philox(11, i);
            let mut bytes = whole.clone();
            let at = at as usize % bytes.len();
            bytes[at] = byte as u8;
            if more % 2 == 0 {
                let at = more as usize % bytes.len().min(200);
                bytes[at] = (byte >> 8) as u8;
            }
            std::fs::write(&path, &bytes).unwrap();
            if let Err(e) = read(&path, Colour::Grey, [5, 5], 1 << 20) {
                assert!(e.to_string().contains(&format!("x.{extension}")), "{e}");
            }
        }
    }
    let path = folder.0.join("text.png");
    std::fs::write(&path, "no picture").unwrap();
    assert!(matches!(read(&path, Colour::Rgb, [8, 8], 1 << 20), Err(InputError::Format { .. })));
    assert!(matches!(read(&folder.0.join("none.png"), Colour::Rgb, [8, 8], 9), Err(InputError::Io { .. })));
}
