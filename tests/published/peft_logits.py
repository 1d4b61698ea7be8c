#!/usr/bin/env python3
"""Compares logits with those that PEFT and transformers give from an adapter's folder.

    python peft_logits.py ADAPTER_FOLDER LOGITS.json --base BASE_MODEL_FOLDER

`LOGITS.json` is a list of {"ids": [token, …], "logits": [[value, …] for each token]}. No logit may be further away than
1e-4, computed in f32. Needs torch, transformers and peft.
"""

import argparse
import json
import pathlib
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

BOUND = 1e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("logits", type=pathlib.Path)
    parser.add_argument("--base", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    cases = json.loads(arguments.logits.read_text())
    base = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, arguments.folder).eval()
    largest, without, tokens = 0.0, 0.0, 0
    for case in cases:
        ids, stated = torch.tensor([case["ids"]]), torch.tensor(case["logits"], dtype=torch.float64)
        with torch.no_grad():
            largest = max(largest, (model(input_ids=ids).logits[0].double() - stated).abs().max().item())
            with model.disable_adapter():
                without = max(without, (model(input_ids=ids).logits[0].double() - stated).abs().max().item())
        tokens += ids.shape[1]
    print(f"{tokens} tokens of {len(cases)} prompts: logits at most {largest:.2e} apart; without the adapter {without:.2e}")
    sys.exit(0 if tokens and largest <= BOUND < without else 1)


if __name__ == "__main__":
    main()
