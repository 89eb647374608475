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
DISTILLED = dict(vocab_size=400, dim=24, hidden_dim=40, n_layers=2, n_heads=4, max_position_embeddings=48)
# Class of the configuration, of the model, what differs from SIZES, type of the weights, tokenizer, pooling and whether there is a module that normalizes.
ENCODERS = {
    "bert": (T.BertConfig, T.BertModel, SIZES, "float32", "small", ("mean_tokens", True)),
    "bert_cased": (T.BertConfig, T.BertModel, SIZES | dict(hidden_act="gelu_new"), "bfloat16", "cased", ("cls_token", False)),
    "bert_classifier": (T.BertConfig, T.BertForSequenceClassification, SIZES | dict(num_labels=3, hidden_act="relu"), "float16", "small", None),
    # Positions begin at 2; bytes in pairs, <mask> takes blanks before it.
    "roberta": (T.RobertaConfig, T.RobertaModel, SIZES | dict(type_vocab_size=1, pad_token_id=1, max_position_embeddings=50), "bfloat16", "bytes",
                ("mean_tokens", False)),
    "roberta_classifier": (T.RobertaConfig, T.RobertaForSequenceClassification, SIZES | dict(type_vocab_size=1, pad_token_id=1, num_labels=2), "bfloat16",
                           "bytes", None),
    "distilbert": (T.DistilBertConfig, T.DistilBertModel, DISTILLED, "bfloat16", "small", ("mean_tokens", True)),
    "distilbert_classifier": (T.DistilBertConfig, T.DistilBertForSequenceClassification, DISTILLED | dict(num_labels=4), "bfloat16", "small", None),
}


def pairs_of_bytes():
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=SIZES["vocab_size"], special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(corpus().splitlines(), trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    read = json.loads(made.to_str())
    read["added_tokens"][4]["lstrip"] = True
    return Tokenizer.from_str(json.dumps(read))


def tokenizer(how):
    if how == "bytes":
        return pairs_of_bytes()
    small = how == "small"
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
    configuration, kind, sizes, dtype, how, pooling = ENCODERS[name]
    config = configuration(**sizes)
    config._attn_implementation = "eager"
    torch.manual_seed(20261201)
    model = kind(config)
    with torch.no_grad():
        for key, value in model.named_parameters():
            norm, bias = "orm.weight" in key, key.endswith("bias")
            noise = torch.rand(value.shape) - 0.5 if norm or bias else torch.randn(value.shape) / value.shape[-1] ** 0.5
            value.copy_((1.0 if norm else 0.0) + noise)
        model = model.to(getattr(torch, dtype))
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    made = tokenizer(how)
    made.save(str(folder / "tokenizer.json"), pretty=False)
    names = ["<s>", "</s>", "<unk>", "<pad>"] if how == "bytes" else ["[CLS]", "[SEP]", "[UNK]", "[PAD]"]
    settings = dict(zip(["cls_token", "sep_token", "unk_token", "pad_token"], names))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")
    model = kind.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()
    seen = np.array(IDS) != 0
    arrays = dict(input_ids=np.where(seen, IDS, config.pad_token_id), attention_mask=seen.astype(np.int64))
    if kind.__name__.startswith("Bert"):
        arrays["token_type_ids"] = np.array(TYPES)
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
    if pooling:
        (HERE / f"{name}.tokens.json").write_text(json.dumps(rows, ensure_ascii=False) + "\n")
    unknown = sum(row["ids"].count(read.token_to_id(names[2])) for row in rows) / sum(len(row["ids"]) for row in rows)
    print(name, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), f"bytes, {unknown:.0%} of the tokens unknown;",
          {key: value.shape for key, value in results.items()})


if __name__ == "__main__":
    for each in sys.argv[1:] or ENCODERS:
        write(each)
