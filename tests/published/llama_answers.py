"""Compares greedy answers of llama.cpp with those that a run recorded.

    python3 tests/published/llama_answers.py --model base.gguf --adapter adapter.gguf --answers RUN/evaluation-after.json
    python3 tests/published/llama_answers.py --model merged.gguf --answers RUN/evaluation-after.json

Needs `pip install llama-cpp-python`. ANSWERS is JSON: a list of objects with `prompt` and `answer`, or an object that
has such a list under `answers`, as `tune run` writes it. Exits with 1 if an answer differs, and prints its prompt.

llama.cpp adds in another order than `tune` and is not exact; the most likely token is the same wherever the first two
are not nearly equal. Keys and values are cached in f32 here (f16 is llama.cpp's default) and attention is computed step
by step, so that what is left is the order of additions.
"""

import argparse
import json
import sys
from pathlib import Path

import llama_cpp

GGML_TYPE_F32 = 0


def load_cases(path):
    """Prompts with expected answers."""
    found = json.loads(path.read_text(encoding="utf-8"))
    cases = found["answers"] if isinstance(found, dict) else found
    return [(case["prompt"], case["answer"]) for case in cases]


def open_model(model, adapter, context, threads):
    """The model; `adapter`, if there is one, at scale 1."""
    return llama_cpp.Llama(
        model_path=str(model),
        lora_path=str(adapter) if adapter else None,
        lora_scale=1.0,
        n_ctx=context,
        n_threads=threads,
        n_threads_batch=threads,
        n_gpu_layers=0,
        type_k=GGML_TYPE_F32,
        type_v=GGML_TYPE_F32,
        flash_attn=False,
        verbose=False,
    )


def answer(llama, prompt, max_tokens):
    """The greedy answer up to the token that ends a text. Special tokens in `prompt` are read as such, as `tune` does;
    whether a text begins with one is the model's word."""
    begin = llama_cpp.llama_vocab_get_add_bos(llama_cpp.llama_model_get_vocab(llama.model))
    tokens = llama.tokenize(prompt.encode(), add_bos=begin, special=True)
    llama.reset()
    result = llama.create_completion(tokens, max_tokens=max_tokens, temperature=0.0, repeat_penalty=1.0)
    return result["choices"][0]["text"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--model", required=True, type=Path, help="GGUF of the base, or of a merged model")
    arguments.add_argument("--adapter", type=Path, help="GGUF of the adapter")
    arguments.add_argument("--answers", required=True, type=Path, help="JSON of prompts with expected answers")
    arguments.add_argument("--max-tokens", type=int, default=80, help="the run's eval_max_new_tokens (default: 80)")
    arguments.add_argument("--context", type=int, default=512, help="tokens of prompt and answer (default: 512)")
    arguments.add_argument("--threads", type=int, default=1, help="more only spin where the model is small (default: 1)")
    given = arguments.parse_args()
    cases = load_cases(given.answers)
    if not cases:
        sys.exit(f"{given.answers} has no answers")
    llama = open_model(given.model, given.adapter, given.context, given.threads)
    different = 0
    for prompt, expected in cases:
        found = answer(llama, prompt, given.max_tokens)
        if found != expected:
            different += 1
            print(f"prompt   {prompt!r}\nexpected {expected!r}\nfound    {found!r}")
    print(f"{len(cases) - different} of {len(cases)} answers are the same (llama-cpp-python {llama_cpp.__version__})")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
