#!/usr/bin/env python3
"""A pack's tokenizer against independent ones on generated texts: all scripts, emoji, blanks, code, special tokens whole and in parts.

    tokenization.py MODEL.gguf MODEL.pack --run edge-run [--count 100000] [--against llama.cpp|sentencepiece] [--store NAME]

llama.cpp reads the same file (a binding of libllama: llama-cpp-py-sync 0.11739 wrote what is stored); `sentencepiece` gets a model made of the file's
tokens, scores and kinds, and texts without special tokens. `--store` keeps the first 400 texts and llama.cpp's ids in expected/NAME.tokens.json,
which tests/tests/tokenizer.rs reads. Exit: 1 when an id differs."""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import unicodedata

import gguf

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORDS = ["Le cœur a ses raisons", "Übung macht den Meister", "Быть или не быть", "知之为知之", "吾輩は猫である。", "모든 인간은", "सत्यमेव जयते", "إن مع العسر يسرا",
         "בראשית ברא", "ความพยายาม", "Γνῶθι σεαυτόν", "naïve façade", "1,234.56 €", "½ ² Ⅷ ٣٤٥", "👩‍👩‍👧🇩🇪🏴󠁧󠁢󠁥󠁮󠁧󠁿", "∀x∈ℝ: x²≥0", "it's they're I'd WE'LL 'S don'T", "▁", "▁▁a", " ▁ ",
         "def f(x):\n    return x  # no\n", "\tif (a != b && c) { d[e] += 0x1F; }\r\n", "<div class=\"x\">&amp;</div> </p>\n</", "SELECT * FROM t WHERE a='b';", "https://a.b/c?d=e&f=%20",
         "\n\n\n", "  \n \t", "\u00a0\u2003\u200b\ufeff\u3000", "e\u0301 \u1e69 \ufb01", "\x00\x01\x7f", "...!!??--__==", "aaaaaaaaaaaaaaaaaaaaaaaa", "123456789012345", "’s “q”"]

# How vocabularies of bytes write the first 32 of them.
BYTES = [chr(256 + c) for c in range(32)]


def blocks():
    """Ranges of 128 characters that have any."""
    found = []
    for start in [*range(0, 0x20000, 128), *range(0x20000, 0x20400, 128), *range(0xE0000, 0xE0200, 128)]:
        if any(unicodedata.category(chr(c)) not in ("Cn", "Cs") for c in range(start, start + 128) if not 0xD800 <= c < 0xE000):
            found.append(start)
    return found


def texts(count, special, seed=8):
    rng, all_blocks = random.Random(seed), blocks()
    corpus = "".join((ROOT / name).read_text() for name in ["README.md", "runtime/PACK.md", "runtime/src/session/mod.rs"])
    for _ in range(count):
        parts = []
        for _ in range(rng.randint(1, 5)):
            kind, size = rng.randrange(8), rng.randint(1, 20)
            if kind < 2:
                at = rng.randrange(len(corpus) - size)
                parts.append(corpus[at:at + size])
            elif kind == 2:
                start = rng.choice(all_blocks)
                chars = [start + rng.randrange(128) for _ in range(size)]
                parts.append("".join(chr(c) for c in chars if not 0xD800 <= c < 0xE000))
            elif kind == 3:
                parts.append("".join(chr(0x20 + rng.randrange(95)) for _ in range(size)))
            elif kind == 4:
                parts.append("".join(rng.choice("  \n\t\r\u00a0 ") for _ in range(size)))
            elif kind == 5 and special:
                token = rng.choice(special)
                parts.append(token if rng.randrange(3) else token[:rng.randrange(1, len(token) + 1)])
            else:
                parts.append(rng.choice(WORDS))
        yield "".join(parts)


class LlamaCpp:
    def __init__(self, path):
        import llama_cpp_py_sync._cffi_bindings as binding
        self.lib, self.ffi = binding.get_lib(), binding.get_ffi()

        @self.ffi.callback("void(enum ggml_log_level, const char*, void*)")
        def quiet(level, text, data):
            pass
        self.quiet = quiet
        self.lib.llama_log_set(quiet, self.ffi.NULL)
        params = self.lib.llama_model_default_params()
        params.vocab_only = True
        self.model = self.lib.llama_model_load_from_file(str(path).encode(), params)
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        self.buffer = self.ffi.new("llama_token[]", 1 << 16)

    def ids(self, text):
        data = text.encode()
        n = self.lib.llama_tokenize(self.vocab, data, len(data), self.buffer, 1 << 16, False, True)
        return list(self.buffer[0:n])

    def ends(self):
        return [i for i in range(self.lib.llama_vocab_n_tokens(self.vocab)) if self.lib.llama_vocab_is_eog(self.vocab, i)]


class SentencePiece:
    def __init__(self, fields):
        import sentencepiece
        from sentencepiece import sentencepiece_model_pb2 as pb
        value = lambda key: fields[f"tokenizer.ggml.{key}"].contents()
        model = pb.ModelProto()
        kinds = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}
        for text, score, kind in zip(value("tokens"), value("scores"), value("token_type")):
            # Blanks are that in its pieces.
            text = text.replace(" ", "\u2581")
            model.pieces.add(piece=text, score=score, type=2 if text == "<unk>" else kinds[kind])
        model.trainer_spec.model_type = 2
        model.trainer_spec.byte_fallback = True
        model.trainer_spec.unk_piece = "<unk>"
        spec = model.normalizer_spec
        prefix = fields.get("tokenizer.ggml.add_space_prefix")
        spec.name, spec.remove_extra_whitespaces, spec.escape_whitespaces = "identity", False, True
        spec.add_dummy_prefix = prefix is None or bool(prefix.contents())
        self.model = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())

    def ids(self, text):
        return self.model.encode(text)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("gguf", type=pathlib.Path)
    p.add_argument("pack", type=pathlib.Path)
    p.add_argument("--run", required=True)
    p.add_argument("--count", type=int, default=100_000)
    p.add_argument("--against", choices=["llama.cpp", "sentencepiece"], default="llama.cpp")
    p.add_argument("--store")
    args = p.parse_args()
    fields = gguf.GGUFReader(args.gguf).fields
    tokens, kinds = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type"))
    special = [text for text, kind in zip(tokens, kinds) if kind in (3, 4)]
    special = [text for text in special if not text.startswith("<unused")] + special[10:13]
    if args.against == "sentencepiece":
        reference, special = SentencePiece(fields), []
    else:
        reference = LlamaCpp(args.gguf)
        print("ends by llama.cpp:", [(i, tokens[i]) for i in reference.ends()])
    # NUL ends a text in C. A control character that a vocabulary of bytes lacks is left out by all; the `tokenizers` library and ours join what is
    # around it, llama.cpp does not.
    known = set("".join(tokens))
    # U+2581 is a blank to SentencePiece before it looks for tokens that are taken whole, to llama.cpp and ours behind that.
    lacks = {c: None for c in range(32) if fields["tokenizer.ggml.model"].contents() == "gpt2" and BYTES[c] not in known}
    if args.against == "sentencepiece":
        lacks[0x2581] = None
    given = [text.replace("\x00", "").translate(lacks) for text in texts(args.count, special)]
    lines = "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in given)
    ran = subprocess.run([args.run, "tokenize", args.pack, "--lines", "--no-bos"], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    ours = [json.loads(line) for line in ran.stdout.decode().splitlines()]
    want = [reference.ids(text) for text in given]
    wrong = [i for i in range(len(given)) if ours[i] != want[i]]
    for i in wrong[:5]:
        print(repr(given[i]), "\n ours", ours[i], "\n want", want[i])
    print(f"{len(given)} texts, {sum(map(len, want))} tokens, {len(wrong)} differ from {args.against}")
    if args.store:
        rows = [{"text": text, "ids": ids} for text, ids in zip(given[:400], want)]
        (HERE / "expected" / f"{args.store}.tokens.json").write_text(json.dumps(rows, ensure_ascii=False) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
