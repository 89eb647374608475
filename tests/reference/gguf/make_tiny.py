#!/usr/bin/env python3
"""Writes tiny decoders with seeded weights and llama.cpp's logits for them: FAMILY.gguf, FAMILY.npz.

    python make_tiny.py [FAMILY...]  # needs requirements.txt; writes beside itself

Weights are F32, and llama.cpp rounds nothing of such; its GELU comes from a table of f16 (gemma2, gemma3).
"""
import pathlib
import sys

import gguf
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
WIDTH, INNER, HEADS, KV, DEPTH, VOCABULARY, CONTEXT = 16, 24, 2, 1, 8, 24, 64
IDS = [3, 23, 0, 7, 7, 21, 18, 1, 13, 5, 12, 2]


def llama(out, matrix, vector):
    """Two layers, factors on the frequencies of rotary positions, an output of its own."""
    out.add_block_count(2)
    out.add_rope_dimension_count(DEPTH)
    out.add_rope_freq_base(500.0)
    vector("rope_freqs.weight", DEPTH // 2, 2.0)
    matrix("output", VOCABULARY, WIDTH)
    return 2, []


def qwen2(out, matrix, vector):
    """Two layers, biases of queries, keys and values, positions stretched by 4."""
    out.add_block_count(2)
    out.add_rope_scaling_factor(4.0)
    out.add_rope_freq_base(1000.0)
    for i in range(2):
        for part, size in [("q", HEADS * DEPTH), ("k", KV * DEPTH), ("v", KV * DEPTH)]:
            vector(f"blk.{i}.attn_{part}.bias", size, 0.0)
    return 2, []


def qwen3(out, matrix, vector):
    """Two layers, queries and keys normed by heads."""
    out.add_block_count(2)
    out.add_key_length(DEPTH)
    out.add_value_length(DEPTH)
    out.add_rope_freq_base(1000.0)
    return 2, [("attn_q_norm", DEPTH), ("attn_k_norm", DEPTH)]


def gemma3(out, matrix, vector):
    """Seven layers, the sixth of which sees all; the others see four tokens."""
    out.add_block_count(7)
    out.add_key_length(DEPTH)
    out.add_value_length(DEPTH)
    out.add_rope_freq_base(1e6)
    out.add_sliding_window(4)
    return 7, [("attn_q_norm", DEPTH), ("attn_k_norm", DEPTH), ("post_attention_norm", WIDTH), ("post_ffw_norm", WIDTH)]


def gemma2(out, matrix, vector):
    """Three layers, the second of which sees all; the others see four tokens. Scores and logits are capped."""
    out.add_block_count(3)
    out.add_key_length(DEPTH)
    out.add_value_length(DEPTH)
    out.add_rope_freq_base(1e4)
    out.add_sliding_window(4)
    out.add_attn_logit_softcapping(5.0)
    out.add_final_logit_softcapping(3.0)
    return 3, [("post_attention_norm", WIDTH), ("post_ffw_norm", WIDTH)]


def write(name, family):
    """One file."""
    random = np.random.default_rng(20261129)
    out = gguf.GGUFWriter(HERE / f"{name}.gguf", name)
    out.add_tokenizer_model("no_vocab")
    out.add_vocab_size(VOCABULARY)
    out.add_context_length(CONTEXT)
    out.add_embedding_length(WIDTH)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV)
    out.add_layer_norm_rms_eps(1e-5)

    def matrix(name, n, k):
        out.add_tensor(f"{name}.weight", (random.standard_normal((n, k)) / k ** 0.5).astype(np.float32))

    def vector(name, size, middle=1.0):
        out.add_tensor(name, (middle + random.uniform(-0.5, 0.5, size)).astype(np.float32))

    blocks, norms = family(out, matrix, vector)
    matrix("token_embd", VOCABULARY, WIDTH)
    vector("output_norm.weight", WIDTH)
    for i in range(blocks):
        for part, n, k in [("attn_q", HEADS * DEPTH, WIDTH), ("attn_k", KV * DEPTH, WIDTH), ("attn_v", KV * DEPTH, WIDTH),
                           ("attn_output", WIDTH, HEADS * DEPTH), ("ffn_gate", INNER, WIDTH), ("ffn_up", INNER, WIDTH),
                           ("ffn_down", WIDTH, INNER)]:
            matrix(f"blk.{i}.{part}", n, k)
        for part, size in [("attn_norm", WIDTH), ("ffn_norm", WIDTH), *norms]:
            vector(f"blk.{i}.{part}.weight", size)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def logits(path):
    """llama.cpp's, keys and values kept in f32."""
    from llama_cpp import Llama
    llm = Llama(str(path), n_ctx=CONTEXT, logits_all=True, n_threads=1, type_k=0, type_v=0, flash_attn=False, verbose=False)
    llm.eval(IDS)
    return np.array(llm.scores[:len(IDS)], np.float32)


def main():
    families = [("llama", llama), ("qwen2", qwen2), ("qwen3", qwen3), ("gemma2", gemma2), ("gemma3", gemma3)]
    for name, family in families:
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        write(name, family)
        got = logits(HERE / f"{name}.gguf")
        np.savez_compressed(HERE / f"{name}.npz", input_ids=np.array([IDS], np.int64), logits=got[None])


if __name__ == "__main__":
    main()
