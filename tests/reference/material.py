"""Real pictures, text, sounds and files, split so that `calib` and `heldout` share no source.

A split owns whole sources: pictures, typefaces, one half of the text, sentences, packages. Everything is drawn with a
numpy Generator that the caller seeds, so the same seed gives the same inputs.
"""
import functools
import pathlib
import sys
import wave

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models"))
import fetch  # noqa: E402

SPLITS = ("calib", "heldout")
PICTURES = {
    "calib": [("images", f) for f in ("astronaut.png", "coffee.png", "motorcycle_left.png", "ihc.png", "grass.png",
                                      "brick.png", "color.png", "hubble_deep_field.jpg", "camera.png")]
    + [("scikit-learn-samples", "china.jpg")],
    "heldout": [("images", f) for f in ("chelsea.png", "rocket.jpg", "retina.jpg", "gravel.png", "coins.png", "moon.png")]
    + [("scikit-learn-samples", "flower.jpg"), ("matplotlib-samples", "grace_hopper.jpg")],
}
PEOPLE = {"calib": [("images", "astronaut.png"), ("images", "camera.png")],
          "heldout": [("matplotlib-samples", "grace_hopper.jpg")]}
SCANS = {"calib": ("images", "page.png"), "heldout": ("images", "text.png")}
FONTS = {
    "calib": [("fonts-dejavu", "DejaVuSans.ttf"), ("fonts-dejavu", "DejaVuSans-Bold.ttf"),
              ("fonts-liberation", "LiberationSerif-Regular.ttf"), ("fonts-liberation", "LiberationMono-Regular.ttf")],
    "heldout": [("fonts-dejavu", "DejaVuSerif.ttf"), ("fonts-dejavu", "DejaVuSansMono.ttf"),
                ("fonts-liberation", "LiberationSans-Regular.ttf"), ("fonts-liberation", "LiberationSans-Bold.ttf")],
}
SENTENCES = {"calib": ("0870", "0890", "0920"), "heldout": ("0880", "0930")}
FILES = {
    "calib": [("matplotlib-samples", f) for f in (
        "all_figures.html", "fbm.css", "mpl.js", "nbagg_mpl.js", "kpsewhich.lua", "matplotlibrc", "LICENSE_DEJAVU",
        "cmr10.afm", "cmr10.ttf", "home.pdf", "home.svg", "home_large.png", "ticker.py", "dates.py", "colors.pyi")]
    + [("images", "astronaut.png"), ("images", "hubble_deep_field.jpg"), ("fonts-dejavu", "DejaVuSans.ttf"),
       ("basic-pitch", "nmp.tflite"), ("silero-vad", "silero_vad.onnx"), ("minilm-vocab", "vocab.txt"),
       ("speech", "sense_and_sensibility_01_austen_64kb-0870.wav")],
    "heldout": [("sphinx-samples", f) for f in (
        "application.py", "inspect.py", "en.py", "searchtools.js", "doctools.js", "fr.po", "fr.mo", "en.txt", "ru.txt",
        "watermark.png", "theme.toml", "sphinxlatexobjects.sty", "sphinxmanual.cls", "layout.html", "logo.svg",
        "LICENSE.rst", "LatinRules.xdy", "METADATA")]
    + [("images", "retina.jpg"), ("fonts-liberation", "LiberationSans-Regular.ttf"), ("silero-vad", "silero_vad.jit"),
       ("speech", "sense_and_sensibility_01_austen_64kb-0930.wav")],
}


# ---- pictures -------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=None)
def picture_file(entry, file):
    """A whole picture, RGB."""
    return Image.open(fetch.cached(entry, file)).convert("RGB")


def crop(rng, image, h, w, smallest=0.5):
    """uint8 [h,w,3]: a random crop with the target's aspect ratio, its larger side `smallest` to all of what fits,
    mirrored half the time, resized."""
    width, height = image.size
    scale = min(width / w, height / h) * rng.uniform(smallest, 1.0)
    cw, ch = max(1, int(w * scale)), max(1, int(h * scale))
    x, y = int(rng.integers(0, width - cw + 1)), int(rng.integers(0, height - ch + 1))
    part = image.crop((x, y, x + cw, y + ch)).resize((w, h), Image.BICUBIC)
    a = np.asarray(part)
    return np.ascontiguousarray(a[:, ::-1] if rng.random() < 0.5 else a)


def picture(rng, split, h, w, people=0.0):
    """uint8 [h,w,3] from the split's pictures; `people` is the share taken from those that show a person."""
    pool = PEOPLE[split] if rng.random() < people else PICTURES[split]
    return crop(rng, picture_file(*pool[int(rng.integers(len(pool)))]), h, w)


# ---- text -----------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=None)
def words(split):
    """Words of the split's half of the Jargon File, in order."""
    text = fetch.cached("text", "jargon.txt").read_text(encoding="utf-8", errors="ignore")
    half = len(text) // 2
    part = text[:half] if split == "calib" else text[half:]
    return part.split()


def phrase(rng, split, count):
    """`count` consecutive words that are plain printable ASCII."""
    pool = words(split)
    start = int(rng.integers(0, len(pool) - 200))
    plain = (w for w in pool[start:start + 200] if w.isascii() and w.isprintable())
    return " ".join(w for w, _ in zip(plain, range(count)))


def font(rng, split, size):
    """A typeface of the split at a size in pixels."""
    pool = FONTS[split]
    entry, file = pool[int(rng.integers(len(pool)))]
    return ImageFont.truetype(str(fetch.cached(entry, file)), size)


def ink_and_paper(rng):
    """Two RGB colours with a luminance gap that a reader can see; dark on light more often than not."""
    dark, light = rng.integers(0, 90, 3), rng.integers(170, 256, 3)
    pair = (dark, light) if rng.random() < 0.8 else (light, dark)
    return tuple(map(int, pair[0])), tuple(map(int, pair[1]))


def text_line(rng, split, max_width, height=48):
    """uint8 [height,w,3], w <= max_width: one line of text, cut out as a detector would, with slight noise."""
    ink, paper = ink_and_paper(rng)
    face = font(rng, split, int(rng.integers(26, 37)))
    text = phrase(rng, split, int(rng.integers(1, 9)))
    # Words are dropped until the line fits: squeezing it would give a script that no camera sees.
    while True:
        left, top, right, bottom = face.getbbox(text)
        width = min(max_width, right - left + int(rng.integers(6, 13)))
        if right - left + 4 <= max_width or " " not in text:
            break
        text = text.rsplit(" ", 1)[0]
    image = Image.new("RGB", (width, height), paper)
    x, y = 2 - left, (height - (bottom - top)) // 2 - top
    ImageDraw.Draw(image).text((x, y), text, fill=ink, font=face)
    noisy = np.asarray(image, np.float32) + rng.normal(0, rng.uniform(0, 8), (height, width, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def document(rng, split, h, w):
    """uint8 [h,w,3]: set text on unevenly lit paper, slightly turned."""
    size = int(rng.integers(13, 25))
    face, dark = font(rng, split, size), tuple(map(int, rng.integers(0, 80, 3)))
    image = Image.new("RGB", (w, h), (235, 235, 235))
    draw = ImageDraw.Draw(image)
    for y in range(int(rng.integers(4, 16)), h, size + int(rng.integers(8, 14))):
        draw.text((12, y), phrase(rng, split, max(1, w // (6 * size))), fill=dark, font=face)
    turned = image.rotate(rng.uniform(-3, 3), Image.BICUBIC, fillcolor=(235, 235, 235))
    light = np.linspace(rng.uniform(0.6, 1), rng.uniform(0.6, 1), w)[None, :, None]
    noisy = np.asarray(turned, np.float32) * light + rng.normal(0, 4, (h, w, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def page(rng, split, h, w):
    """uint8 [h,w,3] for text detection: a scan, a drawn document, lines over a photograph, or a photograph alone."""
    kind = rng.random()
    if kind < 0.1:
        return crop(rng, picture_file(*SCANS[split]), h, w, smallest=0.7)
    if kind < 0.35:
        return document(rng, split, h, w)
    back = picture(rng, split, h, w)
    if kind > 0.92:
        return back
    image = Image.fromarray(back)
    draw = ImageDraw.Draw(image)
    y = int(rng.integers(4, 24))
    while y < h - 16:
        size = int(rng.integers(14, 33))
        face, (ink, paper) = font(rng, split, size), ink_and_paper(rng)
        text, x = phrase(rng, split, int(rng.integers(1, 6))), int(rng.integers(2, max(3, w // 3)))
        if rng.random() < 0.6:
            draw.rectangle(draw.textbbox((x, y), text, font=face), fill=paper)
        draw.text((x, y), text, fill=ink, font=face)
        y += size + int(rng.integers(8, 60))
    return np.asarray(image)


# ---- sound ----------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=None)
def recording(entry, file):
    """(float32 samples in [-1,1], rate) of a mono PCM wav of 8 or 16 bits."""
    with wave.open(str(fetch.cached(entry, file))) as f:
        if f.getnchannels() != 1 or f.getsampwidth() not in (1, 2):
            raise ValueError(f"{file}: not mono PCM of 8 or 16 bits")
        raw = f.readframes(f.getnframes())
        if f.getsampwidth() == 2:
            return np.frombuffer(raw, "<i2").astype(np.float32) / 32768, f.getframerate()
        return (np.frombuffer(raw, "u1").astype(np.float32) - 128) / 128, f.getframerate()


def resample(x, rate, new_rate):
    """Band-limited by cutting or padding the spectrum of the whole signal (one FFT): exact for a periodic signal,
    and the ends do not matter here."""
    if rate == new_rate:
        return x
    n = int(round(len(x) * new_rate / rate))
    spectrum = np.fft.rfft(x)
    kept = np.zeros(n // 2 + 1, complex)
    m = min(len(spectrum), len(kept))
    kept[:m] = spectrum[:m]
    return (np.fft.irfft(kept, n) * (n / len(x))).astype(np.float32)


def speech(rng, split, rate):
    """Float32 samples at `rate`: one read sentence between pauses, at some loudness, over a noise floor."""
    name = SENTENCES[split][int(rng.integers(len(SENTENCES[split])))]
    x, own = recording("speech", f"sense_and_sensibility_01_austen_64kb-{name}.wav")
    x = resample(x, own, rate) * rng.uniform(0.3, 1.0)
    pause = np.zeros(rate // 2, np.float32)
    x = np.concatenate([pause, x, pause])
    return np.clip(x + rng.normal(0, 10 ** rng.uniform(-4, -2), len(x)), -1, 1).astype(np.float32)


def plucked(rng, frequency, samples, rate):
    """A plucked string (Karplus and Strong, 1983): noise in a delay line with a two-point average."""
    period = max(2, int(round(rate / frequency)))
    out = np.zeros(samples, np.float32)
    line = rng.uniform(-1, 1, period).astype(np.float32)
    for start in range(0, samples, period):
        n = min(period, samples - start)
        out[start:start + n] = line[:n]
        line = 0.498 * (line + np.roll(line, 1))
    return out


def organ(rng, frequency, samples, rate):
    """Six harmonics with falling weights and a soft attack."""
    t = np.arange(samples) / rate
    weights = rng.uniform(0.3, 1.0, 6) / np.arange(1, 7)
    tone = sum(a * np.sin(2 * np.pi * frequency * (k + 1) * t) for k, a in enumerate(weights)
               if frequency * (k + 1) < rate / 2)
    return (tone * np.minimum(1, t / 0.02) * np.exp(-1.5 * t)).astype(np.float32)


def music(rng, split, samples, rate=22050):
    """Float32 [samples]: plucked strings on calibration, organ tones on heldout, two or three voices; a fifth of
    the time something recorded: a sentence, and on heldout a music loop as well."""
    if rng.random() < 0.2:
        if split == "heldout" and rng.random() < 0.5:
            x = resample(*recording("sounds", "house_lo.wav"), rate)
        else:
            x = speech(rng, split, rate)
        x = np.tile(x, -(-samples // len(x)) + 1)
        start = int(rng.integers(0, len(x) - samples + 1))
        return x[start:start + samples]
    voice = plucked if split == "calib" else organ
    out, at = np.zeros(samples, np.float32), 0
    while at < samples:
        length = min(samples - at, int(rate * rng.uniform(0.2, 0.6)))
        for _ in range(int(rng.integers(1, 4))):
            midi = int(rng.integers(40, 84))
            out[at:at + length] += voice(rng, 440 * 2 ** ((midi - 69) / 12), length, rate)
        at += length
    return (out / max(1e-6, np.abs(out).max()) * rng.uniform(0.2, 0.9)).astype(np.float32)


# ---- files and sentences --------------------------------------------------------------------------------
def file_content(rng, split):
    """Bytes of a file of the split, of half the long ones only a part from some line on (a shorter file of the
    same type), or a page of prose."""
    pool = FILES[split]
    pick = int(rng.integers(len(pool) + 2))
    if pick >= len(pool):
        return phrase(rng, split, int(rng.integers(20, 180))).encode()
    data = fetch.cached(*pool[pick]).read_bytes()
    text = b"\0" not in data[:4096] and not data.startswith(b"%PDF")
    if text and len(data) > 4096 and rng.random() < 0.5:
        start = data.find(b"\n", int(rng.integers(0, len(data) // 2))) + 1
        data = data[start:start + int(rng.integers(1500, 20000))]
    return data


@functools.lru_cache(maxsize=None)
def vocabulary():
    """{token: id} of minilm."""
    lines = fetch.cached("minilm-vocab", "vocab.txt").read_text(encoding="utf-8").splitlines()
    return {t: i for i, t in enumerate(lines)}


def wordpiece(text):
    """Token ids of ASCII text, lower case, without [CLS] and [SEP]: punctuation split off, then the longest piece
    that the vocabulary has, from the left; a word with no such cut is [UNK] (BERT's WordPiece)."""
    vocab, ids = vocabulary(), []
    spaced = "".join(c if c.isalnum() or c.isspace() else f" {c} " for c in text.lower())
    for word in spaced.split():
        pieces, start = [], 0
        while start < len(word):
            end = next((e for e in range(len(word), start, -1)
                        if ("##" if start else "") + word[start:e] in vocab), None)
            if end is None:
                pieces = [vocab["[UNK]"]]
                break
            pieces.append(vocab[("##" if start else "") + word[start:end]])
            start = end
        ids += pieces
    return ids
