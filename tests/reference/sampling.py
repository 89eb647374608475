#!/usr/bin/env python3
"""What llama.cpp's own chain of samplers leaves of some logits, for tests/tests/sampling.rs.

    sampling.py      writes expected/sampling.json

Needs a binding of libllama that has its samplers (llama-cpp-py-sync 0.11739 wrote what is stored) and numpy. Penalties, top-k, top-p, min-p,
temperature, in this order, as llama.cpp's programs chain them; what is left is what its last sampler draws from."""
import json
import pathlib

import llama_cpp_py_sync._cffi_bindings as binding
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
lib, ffi = binding.get_lib(), binding.get_ffi()
VOCABULARY = 300


def chain(logits, recent, temperature, top_k, top_p, min_p, penalty):
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    # Older bindings have no number of tokens here.
    try:
        penalties = lib.llama_sampler_init_penalties(64, penalty, 0.0, 0.0)
    except TypeError:
        penalties = lib.llama_sampler_init_penalties(len(logits), 64, penalty, 0.0, 0.0)
    for sampler in [penalties, lib.llama_sampler_init_top_k(top_k), lib.llama_sampler_init_top_p(top_p, 1),
                    lib.llama_sampler_init_min_p(min_p, 1), lib.llama_sampler_init_temp(temperature)]:
        lib.llama_sampler_chain_add(chain, sampler)
    for token in recent:
        lib.llama_sampler_accept(chain, token)
    data = ffi.new("llama_token_data[]", len(logits))
    for i, logit in enumerate(logits):
        data[i].id, data[i].logit, data[i].p = i, float(logit), 0.0
    array = ffi.new("llama_token_data_array *")
    array.data, array.size, array.selected, array.sorted = data, len(logits), -1, False
    lib.llama_sampler_apply(chain, array)
    kept = [(array.data[i].id, array.data[i].logit) for i in range(array.size)]
    lib.llama_sampler_free(chain)
    return kept


def main():
    rng = np.random.default_rng(8)
    tables = [np.float32(rng.normal(0, 3, VOCABULARY)), np.float32(rng.normal(-5, 0.5, VOCABULARY)),
              np.float32(np.concatenate([[25.0, 24.0], rng.normal(0, 1, VOCABULARY - 2)]))]
    cases = []
    for table, logits in enumerate(tables):
        recent = rng.integers(0, VOCABULARY, 90).tolist() + np.argsort(-logits)[:3].tolist() * 2
        for options in [(1.0, 0, 1.0, 0.0, 1.0), (0.8, 40, 0.95, 0.05, 1.0), (0.3, 5, 1.0, 0.0, 1.0), (1.5, 0, 0.9, 0.0, 1.0),
                        (1.0, 0, 1.0, 0.1, 1.0), (0.7, 20, 0.5, 0.0, 1.3), (1.0, 0, 1.0, 0.0, 1.2), (2.0, 1, 0.9, 0.5, 1.0),
                        (0.9, 100, 0.99, 0.01, 0.8), (1.0, 299, 0.3, 0.2, 1.1), (0.5, 1000, 0.0, 0.0, 1.0), (1.0, 0, 0.97, 0.02, 2.0)]:
            names = ["temperature", "top_k", "top_p", "min_p", "repeat_penalty"]
            kept = chain(logits, recent, *options)
            value = np.array([logit for _, logit in kept], np.float64)
            p = np.exp(value - value.max())
            p /= p.sum()
            order = sorted(range(len(kept)), key=lambda i: (-p[i], kept[i][0]))
            cases.append({"logits": table, "recent": recent, **dict(zip(names, options)),
                          "ids": [kept[i][0] for i in order], "p": [float(f"{p[i]:.8g}") for i in order]})
            print(table, options, len(kept), cases[-1]["p"][:3])
    out = {"logits": [[float(x) for x in t] for t in tables], "cases": cases}
    (HERE / "expected" / "sampling.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
