#!/usr/bin/env python3
"""Writes tiny encoders in the layout of the transformers library and what that library makes of them: NAME/, NAME.npz, NAME.tokens.json.

    python make_encoders.py [NAME...]    # needs requirements.txt; writes beside itself

As `make_tiny.py`. Texts of two lengths, the shorter filled up. NAME.npz: `input_ids`, `attention_mask`, `token_type_ids`, and the results: the library's
`last_hidden_state` and the vectors that sentence-transformers makes of it (the mean of the tokens that count, or the first one's, of length 1 where there is a
module that normalizes), or a classifier's `logits`. Tokenizers are of words in pieces, trained on this repository's text.
"""
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers as T
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from make_tiny import corpus, texts

HERE = pathlib.Path(__file__).resolve().parent
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIZES = dict(vocab_size=400, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=48)
IDS = [[2, 41, 7, 7, 121, 318, 13, 205, 3], [2, 90, 33, 399, 3, 0, 0, 0, 0]]
TYPES = [[0, 0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0, 0, 0]]
# What differs from SIZES, type of the weights, whether letters are made small, pooling and whether there is a module that normalizes.
ENCODERS = {
    "bert": (dict(), "float32", True, ("mean_tokens", True)),
    "bert_cased": (dict(hidden_act="gelu_new"), "bfloat16", False, ("cls_token", False)),
    "bert_classifier": (dict(num_labels=3, hidden_act="relu"), "float16", True, None),
}


def tokenizer(small):
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=small)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=SIZES["vocab_size"], special_tokens=SPECIAL, show_progress=False, limit_alphabet=150)
    made.train_from_iterator(corpus().splitlines(), trainer)
    around = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.BertProcessing(around[1], around[0]) if not small else processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=around)
    return made


def pooled(folder, hidden, mask, pooling):
    """As sentence-transformers has it; writes its files."""
    how, normalized = pooling
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), *([("Normalize", "2_Normalize")] if normalized else [])]
    rows = [dict(idx=i, name=str(i), path=path, type=f"sentence_transformers.models.{kind}") for i, (kind, path) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(rows) + "\n")
    (folder / "1_Pooling").mkdir()
    ways = {f"pooling_mode_{way}": way == how for way in ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"]}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": hidden.shape[-1], **ways}) + "\n")
    seen = mask[:, :, None].astype(np.float64)
    vectors = (hidden * seen).sum(1) / seen.sum(1) if how == "mean_tokens" else hidden[:, 0].astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if normalized else vectors


def write(name):
    differs, dtype, small, pooling = ENCODERS[name]
    config = T.BertConfig(**(SIZES | differs))
    config._attn_implementation = "eager"
    kind = T.BertModel if pooling else T.BertForSequenceClassification
    torch.manual_seed(20261201)
    model = kind(config)
    with torch.no_grad():
        for key, value in model.named_parameters():
            norm, bias = "LayerNorm.weight" in key, key.endswith("bias")
            noise = torch.rand(value.shape) - 0.5 if norm or bias else torch.randn(value.shape) / value.shape[-1] ** 0.5
            value.copy_((1.0 if norm else 0.0) + noise)
        model = model.to(getattr(torch, dtype))
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    made = tokenizer(small)
    made.save(str(folder / "tokenizer.json"), pretty=False)
    settings = dict(tokenizer_class="BertTokenizerFast", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]", pad_token="[PAD]")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")
    model = kind.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()
    arrays = dict(input_ids=np.array(IDS), attention_mask=(np.array(IDS) != 0).astype(np.int64), token_type_ids=np.array(TYPES))
    with torch.no_grad():
        said = model(**{key: torch.tensor(value) for key, value in arrays.items()})
    if pooling:
        hidden = said.last_hidden_state.numpy()
        vectors = pooled(folder, hidden, arrays["attention_mask"], pooling)
        results = dict(last_hidden_state=hidden, sentence_embedding=vectors.astype(np.float32))
    else:
        results = dict(logits=said.logits.numpy())
    np.savez_compressed(HERE / f"{name}.npz", **arrays, **results)
    read = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = [{"text": text, "ids": read.encode(text, add_special_tokens=False).ids} for text in texts()]
    (HERE / f"{name}.tokens.json").write_text(json.dumps(rows, ensure_ascii=False) + "\n")
    unknown = sum(row["ids"].count(1) for row in rows) / sum(len(row["ids"]) for row in rows)
    print(name, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), f"bytes, {unknown:.0%} of the tokens unknown;",
          {key: value.shape for key, value in results.items()})


if __name__ == "__main__":
    for each in sys.argv[1:] or ENCODERS:
        write(each)
