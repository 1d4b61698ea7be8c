#!/usr/bin/env python3
"""Measures training steps of Hugging Face PEFT: tokens a second and peak memory, as one line of JSON.

    data/venv/bin/python benchmarks/peft.py every-token --model data/smollm2 --steps 5
    data/venv/bin/python benchmarks/peft.py padded --model data/smollm2 --data data/gsm8k/train.jsonl --steps 20

`every-token`: 4 rows of 256 random tokens a step, all supervised. The speed is that of the median step.

`padded`: GSM8K as people usually train on it. Each example is a row of its own: a user message (the question) and an
assistant message (the answer) in the tokenizer's chat template. Four examples, in an order drawn from a fixed seed, are
padded to the longest of them. Supervised are the answer and its end-of-turn token, the same tokens as in `tune`.
Examples longer than 512 tokens are left out, as in the recipe. The speed is all tokens over all seconds; padding does
not count as tokens.

Either way: LoRA with r = 16 and alpha = 32 on the seven linear projections, the model's own loss over all logits,
AdamW, gradients clipped to norm 1. With `--dtype bf16` the base weights and the arithmetic of the base are bf16; the
LoRA matrices stay f32, which is PEFT's default. The first step warms up and is not counted.
"""

import argparse
import json
import os
import random
import resource
import statistics
import sys
import time
from pathlib import Path

# This file has the name of the library that it imports, so its own folder must not be searched.
HERE = Path(__file__).resolve().parent
sys.path = [folder for folder in sys.path if Path(folder).resolve() != HERE]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers

BATCH = 4
ROW_TOKENS = 256
LONGEST_EXAMPLE = 512
IGNORED = -100
SEED = 42
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def load_model(options):
    """The base model with a fresh LoRA adapter, ready to train."""
    base = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=DTYPES[options.dtype])
    base.config.use_cache = False
    if options.gradient_checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    lora = peft.LoraConfig(
        task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=0.0, target_modules=PROJECTIONS
    )
    model = peft.get_peft_model(base, lora)
    model.train()
    return model


def random_batches(vocabulary):
    """Endless batches of random tokens, all of them supervised. Nothing is padded, so there is no mask."""
    generator = torch.Generator().manual_seed(SEED)
    while True:
        ids = torch.randint(vocabulary, (BATCH, ROW_TOKENS), generator=generator)
        yield {"input_ids": ids, "labels": ids.clone()}


def encode(tokenizer, example):
    """Token ids and labels of a question and its answer."""
    user = {"role": "user", "content": example["question"]}
    assistant = {"role": "assistant", "content": example["answer"]}
    prompt = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([user, assistant], tokenize=False)
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    start = len(prompt_ids)
    if ids[:start] != prompt_ids:
        raise SystemExit("the chat template's prompt is not the beginning of the whole conversation")
    # What the template writes after the end of the turn is not supervised.
    end = len(ids) - ids[::-1].index(tokenizer.eos_token_id)
    labels = [IGNORED] * start + ids[start:end] + [IGNORED] * (len(ids) - end)
    return ids, labels


def pad(examples, padding):
    """One batch of examples, each filled up to the longest."""
    longest = max(len(ids) for ids, _ in examples)
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for ids, labels in examples:
        missing = longest - len(ids)
        batch["input_ids"].append(ids + [padding] * missing)
        batch["attention_mask"].append([1] * len(ids) + [0] * missing)
        batch["labels"].append(labels + [IGNORED] * missing)
    return {name: torch.tensor(rows) for name, rows in batch.items()}


def padded_batches(options):
    """Batches of GSM8K's examples in a shuffled order, up to the end of the data."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    lines = [line for line in options.data.read_text(encoding="utf-8").splitlines() if line.strip()]
    random.Random(SEED).shuffle(lines)
    examples = []
    for line in lines:
        ids, labels = encode(tokenizer, json.loads(line))
        if len(ids) <= LONGEST_EXAMPLE:
            examples.append((ids, labels))
        if len(examples) == BATCH:
            yield pad(examples, padding)
            examples = []


def measure(model, batches):
    """Trains one step for each batch; seconds and tokens of each."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.0)
    steps = []
    for batch in batches:
        start = time.perf_counter()
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds = time.perf_counter() - start
        mask = batch.get("attention_mask")
        tokens = batch["input_ids"].numel() if mask is None else int(mask.sum())
        # The first token of a row is predicted by nothing.
        supervised = int((batch["labels"][:, 1:] != IGNORED).sum())
        steps.append({"seconds": seconds, "tokens": tokens, "supervised_tokens": supervised})
    return steps


def speed(steps, count, mode):
    """Tokens a second: of the median step where all are alike, else of all steps together."""
    if mode == "every-token":
        return statistics.median(step[count] / step["seconds"] for step in steps)
    return sum(step[count] for step in steps) / sum(step["seconds"] for step in steps)


def parse():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("mode", choices=["every-token", "padded"])
    arguments.add_argument("--model", required=True, type=Path, help="the Hugging Face folder")
    arguments.add_argument("--data", type=Path, help="train.jsonl of GSM8K, for `padded`")
    arguments.add_argument("--dtype", choices=list(DTYPES), default="f32")
    arguments.add_argument("--steps", type=int, default=5, help="steps to measure, after one that warms up")
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments.add_argument("--gradient-checkpointing", action="store_true")
    options = arguments.parse_args()
    if options.mode == "padded" and options.data is None:
        arguments.error("`padded` needs --data")
    if options.steps < 1 or options.threads < 1:
        arguments.error("--steps and --threads are at least 1")
    return options


def main():
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    model = load_model(options)
    if options.mode == "every-token":
        source = random_batches(model.config.vocab_size)
    else:
        source = padded_batches(options)
    batches = [batch for _, batch in zip(range(options.steps + 1), source)]
    if len(batches) <= options.steps:
        raise SystemExit(f"the data has only {len(batches)} batches")
    steps = measure(model, batches)[1:]
    result = {
        "mode": options.mode,
        "dtype": options.dtype,
        "gradient_checkpointing": options.gradient_checkpointing,
        "threads": torch.get_num_threads(),
        "tokens_per_second": speed(steps, "tokens", options.mode),
        "supervised_tokens_per_second": speed(steps, "supervised_tokens", options.mode),
        "step_seconds": statistics.median(step["seconds"] for step in steps),
        # Linux gives this in KiB.
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "steps": steps,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
