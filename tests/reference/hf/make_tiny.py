#!/usr/bin/env python3
"""Writes tiny checkpoints in the layout of the transformers library and what that library makes of them: FAMILY/, FAMILY.npz.

    python make_tiny.py [NAME...]    # needs requirements.txt; writes beside itself

Weights are seeded and of the type that config.json says; the library computes in f32 with them, on the CPU, its plain attention. Each folder has a tokenizer
that is trained here on this repository's text: of bytes, split as the family's own tokenizers split, or of characters with bytes for what is
unknown (Gemma, Mistral). FAMILY.npz: `input_ids`, `logits`. FAMILY.tokens.json: texts with the library's ids, special tokens in them, what texts begin with left out.
"""
import json
import pathlib
import random
import shutil
import sys

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers, Regex

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
IDS = [3, 41, 0, 7, 7, 21, 118, 1, 13, 205, 12, 2, 90, 33]
SIZES = dict(vocab_size=320, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, bos_token_id=0, eos_token_id=1)
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}NUMBERS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
SPECIAL = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"]
T = transformers
# Class of the configuration, what differs from SIZES, type of the weights, how texts are split, bytes of a shard.
FAMILIES = {
    # Frequencies of Llama 3.1: one kept, one between, one divided; a head of its own.
    "llama": (T.LlamaConfig, dict(rope_theta=500.0, tie_word_embeddings=False, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64), max_position_embeddings=128),
        "bfloat16", "llama3", 32_000),
    # SmolLM2's way: the embedding is the head, no scaling; biases as attention_bias and mlp_bias have them.
    "smollm2": (T.LlamaConfig, dict(rope_theta=1000.0, tie_word_embeddings=True, attention_bias=True, mlp_bias=True), "float32", "smollm", None),
    # Positions stretched by 4.
    "qwen2": (T.Qwen2Config, dict(rope_theta=1000.0, tie_word_embeddings=True, rope_scaling=dict(rope_type="linear", factor=4.0)),
              "float16", "qwen2", None),
    # Heads wider than their share; a window in the second layer.
    "qwen3": (T.Qwen3Config, dict(rope_theta=1000.0, head_dim=8, tie_word_embeddings=False, use_sliding_window=True, sliding_window=5,
                                  max_window_layers=1), "bfloat16", "qwen2", None),
    # One tensor for queries, keys and values; half of each head is turned, by divisors of their own; special tokens take blanks behind them.
    "phi3": (T.Phi3Config, dict(rope_theta=1000.0, tie_word_embeddings=False, num_attention_heads=3, head_dim=8, pad_token_id=2, partial_rotary_factor=0.5,
                                original_max_position_embeddings=32, rope_scaling=dict(type="longrope", short_factor=[1.0, 1.5], long_factor=[2.0, 4.0]),
                                num_key_value_heads=1), "bfloat16", "characters", None),
    "mistral": (T.MistralConfig, dict(rope_theta=1000.0, sliding_window=5, tie_word_embeddings=False), "bfloat16", "characters", None),
    "gemma2": (T.Gemma2Config, dict(head_dim=8, query_pre_attn_scalar=12, sliding_window=4, attn_logit_softcapping=5.0,
                                    final_logit_softcapping=3.0), "bfloat16", "gemma", None),
    # Windows in all layers but the third.
    "gemma3": (T.Gemma3TextConfig, dict(head_dim=8, query_pre_attn_scalar=12, sliding_window=4, num_hidden_layers=3, rope_theta=1e6,
                                        rope_scaling=dict(rope_type="linear", factor=8.0),
                                        layer_types=["sliding_attention", "sliding_attention", "full_attention"]), "bfloat16", "gemma", None),
}


def corpus():
    names = ["README.md", "ARCHITECTURE.md", "runtime/PACK.md"]
    text = "".join((ROOT / name).read_text() for name in names)
    return text + "Le cœur a ses raisons. Übung macht den Meister. Быть или не быть. 知之为知之。 吾輩は猫である。 " * 20


def tokenizer(how, blanks=False):
    """A tokenizer of 320 tokens, whose last special ones take blanks behind them or not."""
    isolated = lambda regex: pre_tokenizers.Split(Regex(regex), "isolated")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if how in ("characters", "gemma"):
        made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        blanks = normalizers.Replace(" ", "\u2581")
        made.normalizer = blanks if how == "gemma" else normalizers.Sequence([normalizers.Prepend("\u2581"), blanks])
        # Words begin with their blank where a vocabulary is trained.
        made.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", "never", True)
        made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
        trainer = trainers.BpeTrainer(vocab_size=SIZES["vocab_size"] - 256 - 5, show_progress=False, limit_alphabet=40)
    else:
        made = Tokenizer(models.BPE(ignore_merges=how == "llama3"))
        trainer = trainers.BpeTrainer(vocab_size=SIZES["vocab_size"] - 5, show_progress=False, initial_alphabet=alphabet)
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=how == "smollm")
        first = pre_tokenizers.Digits(individual_digits=True) if how == "smollm" else isolated(
            SPLIT.replace("NUMBERS", "{1,3}" if how == "llama3" else ""))
        made.pre_tokenizer = pre_tokenizers.Sequence([first, byte_level])
        made.decoder = decoders.ByteLevel()
        if how == "qwen2":
            made.normalizer = normalizers.NFC()
    made.train_from_iterator(corpus().splitlines(), trainer)
    # Special tokens first, then bytes where they are tokens, then what was trained.
    trained = json.loads(made.to_str())
    order = sorted(trained["model"]["vocab"], key=trained["model"]["vocab"].get)
    tokens = [*SPECIAL, *([f"<0x{i:02X}>" for i in range(256)] if how in ("characters", "gemma") else []), *order]
    trained["model"]["vocab"] = {token: i for i, token in enumerate(tokens)}
    if how in ("characters", "gemma"):
        # As of a SentencePiece model: every split of a token is a merge.
        rank = {token: i for i, token in enumerate(order)}
        trained["model"]["merges"] = [[t[:i], t[i:]] for t in order for i in range(1, len(t)) if t[:i] in rank and t[i:] in rank]
        trained["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    trained["added_tokens"] = [dict(id=i, content=token, single_word=False, lstrip=False, rstrip=False, normalized=False, special=i != 3)
                               for i, token in enumerate(SPECIAL)]
    if blanks:
        for token in trained["added_tokens"][3:]:
            token["rstrip"] = True
    made = Tokenizer.from_str(json.dumps(trained))
    if how == "llama3":
        start = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
        made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), start])
    return made


def texts(count=150):
    """Parts of the corpus, characters of many scripts, special tokens, blanks."""
    rng, whole = random.Random(8), corpus()
    blocks = [0x20, 0x30, 0xa0, 0x391, 0x410, 0x620, 0x905, 0x3040, 0x4e00, 0xac00, 0x1f300]
    for _ in range(count):
        parts = []
        for _ in range(rng.randint(1, 4)):
            kind, size = rng.randrange(5), rng.randint(1, 12)
            if kind < 2:
                at = rng.randrange(len(whole) - size)
                parts.append(whole[at:at + size])
            elif kind == 2:
                start = rng.choice(blocks)
                parts.append("".join(chr(start + rng.randrange(64)) for _ in range(size)))
            elif kind == 3:
                parts.append(rng.choice(SPECIAL))
            else:
                parts.append(rng.choice(["  ", " \n\n", "\t", "   x", "it's WE'LL", "2024 3.14", "\u2581"]))
        yield "".join(parts)


def write(name):
    kind, differs, dtype, how, shard = FAMILIES[name]
    config = kind(**(SIZES | differs))
    config._attn_implementation = "eager"
    torch.manual_seed(20261130)
    model = T.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for key, value in model.named_parameters():
            norm, bias = key.endswith("norm.weight"), key.endswith("bias")
            middle = (0.0 if name.startswith("gemma") else 1.0) if norm else 0.0
            noise = torch.rand(value.shape) - 0.5 if norm or bias else torch.randn(value.shape) / value.shape[-1] ** 0.5
            value.copy_(middle + noise)
        model = model.to(getattr(torch, dtype))
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 0, "eos_token_id": [1, 4]}) + "\n")
    made = tokenizer(how, blanks=name == "phi3")
    made.save(str(folder / "tokenizer.json"), pretty=False)
    settings = dict(tokenizer_class="PreTrainedTokenizerFast", bos_token="<s>", eos_token={"content": "</s>", "special": True}, unk_token="<unk>")
    if how in ("characters", "gemma"):
        settings |= dict(tokenizer_class="GemmaTokenizerFast" if how == "gemma" else "LlamaTokenizerFast", add_bos_token=True)
    if name == "qwen2":
        (folder / "chat_template.jinja").write_text(TEMPLATE)
    else:
        settings["chat_template"] = TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")
    model = T.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits.numpy()
    np.savez_compressed(HERE / f"{name}.npz", input_ids=np.array([IDS], np.int64), logits=logits.astype(np.float32))
    read = Tokenizer.from_file(str(folder / "tokenizer.json"))
    given = [text for text in texts() if not (how == "qwen2" and normalizers.NFC().normalize_str(text) != text)]
    rows = [{"text": text, "ids": read.encode(text, add_special_tokens=False).ids} for text in given]
    (HERE / f"{name}.tokens.json").write_text(json.dumps(rows, ensure_ascii=False) + "\n")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(name, size, "bytes,", len(list(folder.glob("*.safetensors"))), "files of tensors, logits", logits.min(), logits.max())


if __name__ == "__main__":
    for each in sys.argv[1:] or FAMILIES:
        write(each)
