#!/usr/bin/env python3
"""Training steps of Hugging Face PEFT on a GPU, with the shapes of `tune bench --gpu`: one line of JSON a measurement.

    data/venv/bin/python benchmarks/peft_gpu.py
    data/venv/bin/python benchmarks/peft_gpu.py --tune figures.json

The models have the usual shapes and weights without meaning, so nothing is fetched. LoRA with r = 16 and alpha = 32 on
the seven linear projections, AdamW, gradients clipped to norm 1; every token but the first of a row is supervised. With
bf16 the base and its arithmetic are bf16; the LoRA matrices stay f32, which is PEFT's default. With `--tune` the figures
of `tune bench --gpu --json`, made on the same device, are read and each line gets the ratio.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

# A file here has the name of a library, so this folder must not be searched.
HERE = Path(__file__).resolve().parent
sys.path = [folder for folder in sys.path if Path(folder).resolve() != HERE]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
BATCHES = [(4, 2048), (8, 512)]
# Hidden, feed-forward, layers, heads, key-value heads, vocabulary, tied embeddings: as `tune_train::bench::device::shapes`.
SHAPES = {
    "tiny": (64, 160, 2, 4, 2, 512, True),
    "SmolLM2-135M": (576, 1536, 30, 9, 3, 49152, True),
    "Llama-3.2-1B": (2048, 8192, 16, 32, 8, 128256, True),
    "Llama-3-8B": (4096, 14336, 32, 32, 8, 128256, False),
}


def build(shape, dtype, device):
    """A model of this shape with a LoRA adapter, ready to train."""
    hidden, mlp, layers, heads, kv_heads, vocabulary, tied = shape
    config = transformers.LlamaConfig(
        hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=vocabulary, tie_word_embeddings=tied, max_position_embeddings=2048,
        use_cache=False, bos_token_id=0, eos_token_id=0,
    )
    with torch.device(device):
        torch.set_default_dtype(dtype)
        base = transformers.AutoModelForCausalLM.from_config(config)
        torch.set_default_dtype(torch.float32)
    lora = peft.LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=0.0, target_modules=PROJECTIONS)
    model = peft.get_peft_model(base, lora)
    model.train()
    return model


def seconds_a_step(model, batch, steps, device):
    """The median over `steps` steps, after one that warms up."""
    rows, tokens = batch
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    times = []
    for _ in range(steps + 1):
        ids = torch.randint(model.config.vocab_size, (rows, tokens), generator=generator).to(device)
        wait()
        start = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def ours(path):
    """Tokens a second of `tune` by model and batch, and within that by numerics."""
    figures = json.loads(Path(path).read_text(encoding="utf-8"))
    found = {}
    for line in figures["training"]:
        found.setdefault((line["model"], tuple(line["batch"])), {})[line["numerics"]] = line["tokens_per_second"]
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--model", action="append", choices=list(SHAPES), help="default: all but the first")
    arguments.add_argument("--dtype", action="append", choices=list(DTYPES), help="default: both")
    arguments.add_argument("--steps", type=int, default=5)
    arguments.add_argument("--tune", help="the JSON of `tune bench --gpu --json`")
    options = arguments.parse_args()
    of_tune = ours(options.tune) if options.tune else {}
    for name in options.model or list(SHAPES)[1:]:
        for dtype in options.dtype or list(DTYPES):
            for batch in BATCHES:
                line = {"model": name, "dtype": dtype, "batch": batch, "torch": torch.__version__}
                try:
                    model = build(SHAPES[name], DTYPES[dtype], options.device)
                    seconds = seconds_a_step(model, batch, options.steps, options.device)
                    line["tokens_per_second"] = batch[0] * batch[1] / seconds
                    mine = of_tune.get((name, batch), {})
                    line["ratio"] = {
                        numerics: speed / line["tokens_per_second"] for numerics, speed in mine.items() if speed
                    }
                except torch.cuda.OutOfMemoryError:
                    line["problem"] = "out of memory"
                model = None
                if options.device.startswith("cuda"):
                    torch.cuda.empty_cache()
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
