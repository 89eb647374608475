#!/usr/bin/env python3
"""SmolLM2-135M-Instruct in the layout of the transformers library: written of the GGUF file that tests/models/fetch.py pins, and compared.

    smollm2_hf.py FOLDER                                            # writes the checkpoint: bf16 in three shards, tokenizer.json, chat template
    smollm2_hf.py FOLDER --convert edge-convert --run edge-run [--transformers] [--json RESULT.json]

Needs gguf and numpy; comparing needs llama-cpp-python, `--transformers` that library and torch. The file's tensors are made f32 by the format's own Python
package and rounded to bf16; rows of queries and keys, which GGUF has in pairs of neighbours, are put in the order of half heads.

Compared: logits of the pack made of FOLDER with llama.cpp's on a GGUF file of the same bf16 numbers in f32 (and, with `--transformers`, with those of
that library on FOLDER, in f32), at all positions of a prompt with its continuation and of 512 tokens of text; token ids with those of the pack
made of the GGUF file, on 5,000 texts of all scripts; the peak of the conversion with the bytes of the tensors. Exit: 1 when a bound is broken.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import llm  # noqa: E402
import tokenization  # noqa: E402

SHARD = 100_000_000
# Of the logits' range: the numbers are the same, sums are in another order.
BOUND = 1e-4
# Beside the bytes of the tensors: the graph, the tokenizer's JSON, a few rows in f32.
BESIDE = 100_000_000
NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj"}


def bf16(values):
    """The nearest, even on ties, as u16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def stored_name(name):
    """Of a GGUF tensor."""
    if name.startswith("blk."):
        _, layer, part, end = name.split(".")
        return f"model.layers.{layer}.{NAMES[part]}.{end}"
    return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}[name]


def tensors(file, heads):
    """Names and bf16 numbers in the file's own order, and the order of the other layout."""
    for tensor in file.tensors:
        numbers = bf16(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        rows = next((count for part, count in heads.items() if f".{part}." in tensor.name), None)
        halves = numbers
        if rows:
            n, k = numbers.shape
            halves = numbers.reshape(rows, n // rows // 2, 2, k).swapaxes(1, 2).reshape(n, k)
        yield tensor.name, numbers, np.ascontiguousarray(halves)


def safetensors(path, some):
    """The format's own bytes: NumPy has no bf16."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, numbers in some:
        header[name] = {"dtype": "BF16", "shape": list(numbers.shape), "data_offsets": [at, at + numbers.nbytes]}
        at += numbers.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _, numbers in some:
            out.write(numbers.tobytes())


def write(source, folder):
    """The checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    file = gguf.GGUFReader(source)
    value = lambda key, default=None: file.fields[key].contents() if key in file.fields else default
    of = lambda key: value(f"llama.{key}")
    heads = {"attn_q": of("attention.head_count"), "attn_k": of("attention.head_count_kv")}
    shards, size = [[]], 0
    for name, _, numbers in tensors(file, heads):
        if size + numbers.nbytes > SHARD and shards[-1]:
            shards.append([])
            size = 0
        shards[-1].append((stored_name(name), numbers))
        size += numbers.nbytes
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    for name, some in zip(names, shards):
        safetensors(folder / name, some)
    places = {key: name for name, some in zip(names, shards) for key, _ in some}
    total = sum(numbers.nbytes for some in shards for _, numbers in some)
    dump = lambda name, what: (folder / name).write_text(json.dumps(what, ensure_ascii=False) + "\n")
    dump("model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places})
    tokens, kinds = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.token_type")
    ids = {name: value(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "unknown", "padding")}
    dump("config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_act": "silu",
        "hidden_size": of("embedding_length"), "intermediate_size": of("feed_forward_length"), "num_hidden_layers": of("block_count"),
        "num_attention_heads": heads["attn_q"], "num_key_value_heads": heads["attn_k"], "max_position_embeddings": of("context_length"),
        "rms_norm_eps": float(of("attention.layer_norm_rms_epsilon")), "rope_theta": float(of("rope.freq_base")), "rope_scaling": None,
        "tie_word_embeddings": "lm_head.weight" not in places, "vocab_size": len(tokens), "bos_token_id": ids["bos"], "eos_token_id": ids["eos"]})
    dump("generation_config.json", {"bos_token_id": ids["bos"], "eos_token_id": ids["eos"]})
    added = [dict(id=i, content=token, single_word=False, lstrip=False, rstrip=False, normalized=False, special=kind == 3)
             for i, (token, kind) in enumerate(zip(tokens, kinds)) if kind in (3, 4)]
    bytes_ = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    dump("tokenizer.json", dict(
        version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=None,
        pre_tokenizer=dict(type="Sequence", pretokenizers=[dict(type="Digits", individual_digits=True), bytes_]), post_processor=None,
        decoder=bytes_, model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
                                   fuse_unk=False, byte_fallback=False, vocab={token: i for i, token in enumerate(tokens)},
                                   merges=value("tokenizer.ggml.merges"))))
    named = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    dump("tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "model_max_length": of("context_length"),
                                   **{named[key]: tokens[i] for key, i in ids.items() if i is not None}})
    (folder / "chat_template.jinja").write_text(value("tokenizer.chat_template"))
    return total


def in_floats(source, to):
    """The file with every tensor's bf16 numbers in f32, for llama.cpp."""
    file = gguf.GGUFReader(source)
    out = gguf.GGUFWriter(to, arch=file.fields["general.architecture"].contents())
    for key, field in file.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        out.add_key_value(key, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    out.add_file_type(0)
    for name, numbers, _ in tensors(file, {}):
        out.add_tensor(name, (numbers.astype(np.uint32) << 16).view(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def transformers_logits(folder, cases):
    import torch
    import transformers
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return [model(torch.tensor([ids])).logits[0].numpy() for ids in cases]


def against(pack, cases, wants):
    """Largest difference over a position's range, and the share of positions with the same first token."""
    worst, same, count = 0.0, 0, 0
    for ids, want in zip(cases, wants):
        got = pack.logits(ids)
        worst = max(worst, float((np.abs(got - want).max(1) / (want.max(1) - want.min(1))).max()))
        same, count = same + int((got.argmax(1) == want.argmax(1)).sum()), count + len(ids)
    return {"error": worst, "same_first": same, "of": count}


def ids_of(run, pack, texts):
    lines = "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)
    ran = subprocess.run([run, "tokenize", pack, "--lines", "--no-bos"], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    return ran.stdout.decode().splitlines()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--convert")
    parser.add_argument("--run")
    parser.add_argument("--transformers", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    name, file, _ = llm.MODELS["smollm2"]
    source = llm.fetch.cached(name, file)
    total = write(source, args.folder)
    if not args.convert or not args.run:
        print(f"{args.folder}: {total} bytes of tensors")
        return
    with tempfile.TemporaryDirectory() as folder:
        args.out = pathlib.Path(folder)
        pack, other = llm.Pack(args, args.folder, "hf"), llm.Pack(args, source, "gguf")
        about = json.loads((HERE.parent / "expected" / "smollm2.json").read_text())
        text = np.load(HERE.parent / "expected" / "smollm2.npz")["in:ppl_ids"].tolist()
        cases = [about["prompt_ids"] + about["greedy_ids"], text]
        floats = args.out / "floats.gguf"
        in_floats(source, floats)
        row = {"tensors": total, "pack": pack.bytes, "convert_s": round(pack.seconds, 2), "peak": pack.peak,
               "llama_cpp": against(pack, cases, llm.llama_cpp(floats, cases))}
        floats.unlink()
        if args.transformers:
            row["transformers"] = against(pack, cases, transformers_logits(args.folder, cases))
        fields = gguf.GGUFReader(source).fields
        tokens, kinds = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type"))
        special = [token for token, kind in zip(tokens, kinds) if kind in (3, 4)]
        given = list(tokenization.texts(5000, special))
        ours, theirs = ids_of(args.run, pack.path, given), ids_of(args.run, other.path, given)
        row["texts"] = len(given)
        row["texts_apart"] = sum(a != b for a, b in zip(ours, theirs)) + abs(len(ours) - len(theirs))
    broken = [what for what, bad in [
        ("logits", not all(row[key]["error"] <= BOUND for key in ("llama_cpp", "transformers") if key in row)),
        ("token ids", row["texts_apart"] > 0),
        ("peak", pack.peak > total + BESIDE)] if bad]
    print(json.dumps(row | {"broken": broken}))
    if args.json:
        args.json.write_text(json.dumps(row | {"broken": broken}, indent=1) + "\n")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
