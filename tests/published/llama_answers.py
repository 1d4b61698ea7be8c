"""Compares greedy answers of llama.cpp with those that a run recorded.

    python3 tests/published/llama_answers.py --model base.gguf --adapter adapter.gguf --answers RUN/evaluation-after.json
    python3 tests/published/llama_answers.py --model merged.gguf --answers RUN/evaluation-after.json

Needs xllamacpp, a package that brings llama.cpp as a wheel. ANSWERS is JSON: a list of objects with `prompt` and `answer`,
or an object that has such a list under `answers`, as `tune run` writes it. Exits with 1 if an answer differs, and prints its
prompt.

llama.cpp adds in another order than `tune` and is not exact; the most likely token is the same wherever the first two
are not nearly equal. Keys and values are cached in f32 here (f16 is llama.cpp's default) and attention is computed step
by step, so that what is left is the order of additions.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

import xllamacpp


def load_cases(path):
    """Prompts with expected answers."""
    found = json.loads(path.read_text(encoding="utf-8"))
    cases = found["answers"] if isinstance(found, dict) else found
    return [(case["prompt"], case["answer"]) for case in cases]


def open_model(model, adapter, context, threads):
    """The model; `adapter`, if there is one, at scale 1."""
    settings = xllamacpp.CommonParams()
    settings.model.path = str(model)
    if adapter:
        settings.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    settings.n_ctx, settings.n_parallel, settings.n_gpu_layers = context, 1, 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.warmup, settings.verbosity = False, -1
    return xllamacpp.Server(settings)


def answer(llama, prompt, max_tokens):
    """The greedy answer up to the token that ends a text. Special tokens in `prompt` are read as such, as `tune` does;
    whether a text begins with one is the model's word."""
    request = {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0.0, "cache_prompt": False}
    return llama.handle_completions(request)["choices"][0]["text"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--model", required=True, type=Path, help="GGUF of the base, or of a merged model")
    arguments.add_argument("--adapter", type=Path, help="GGUF of the adapter")
    arguments.add_argument("--answers", required=True, type=Path, help="JSON of prompts with expected answers")
    arguments.add_argument("--limit", type=int, help="prompts at most")
    arguments.add_argument("--max-tokens", type=int, default=80, help="the run's eval_max_new_tokens (default: 80)")
    arguments.add_argument("--context", type=int, default=512, help="tokens of prompt and answer (default: 512)")
    arguments.add_argument("--threads", type=int, default=1, help="more only spin where the model is small (default: 1)")
    given = arguments.parse_args()
    cases = load_cases(given.answers)[: given.limit]
    if not cases:
        sys.exit(f"{given.answers} has no answers")
    llama = open_model(given.model, given.adapter, given.context, given.threads)
    different = 0
    for prompt, expected in cases:
        found = answer(llama, prompt, given.max_tokens)
        if found != expected:
            different += 1
            print(f"prompt   {prompt!r}\nexpected {expected!r}\nfound    {found!r}")
    print(f"{len(cases) - different} of {len(cases)} answers are the same (xllamacpp {version('xllamacpp')})")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
