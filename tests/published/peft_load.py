#!/usr/bin/env python3
"""Loads a published adapter with PEFT and transformers and lets them answer the run's held-out prompts.

    python peft_load.py FOLDER --base BASE_MODEL_FOLDER

The greedy answers must be those in the run, and the mean loss over reference answers the run's, to 1e-5: the run's own
evaluation has every prompt, reference and answer. For runs of `prompt_completion` examples, whose prompt and completion are
put together as they are. Needs torch, transformers, peft and tokenizers.
"""

import argparse
import json
import pathlib
import struct
import sys

import torch
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--base", type=pathlib.Path, required=True)
    parser.add_argument("--limit", type=int, default=100, help="prompts at most")
    arguments = parser.parse_args()
    scores = json.loads((arguments.folder / "run/evaluation-after.json").read_text())
    tokenizer = Tokenizer.from_file(str(arguments.base / "tokenizer.json"))
    base = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, arguments.folder).eval()
    end = base.config.eos_token_id
    differing, answers = 0, scores["answers"][: arguments.limit]
    total, count, largest = 0.0, 0, 0.0
    for answer in answers:
        ids = tokenizer.encode(answer["prompt"], add_special_tokens=False).ids
        with torch.no_grad():
            out = model.generate(
                input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False, max_new_tokens=80
            )
            new = [token for token in out[0, len(ids) :].tolist() if token != end]
            differing += tokenizer.decode(new, skip_special_tokens=True).strip() != answer["answer"].strip()
            whole = tokenizer.encode(answer["prompt"] + answer["reference"], add_special_tokens=False).ids + [end]
            logits = model(input_ids=torch.tensor([whole])).logits[0, len(ids) - 1 : -1].double()
            losses = torch.nn.functional.cross_entropy(logits, torch.tensor(whole[len(ids) :]), reduction="none")
            total, count = total + losses.sum().item(), count + len(losses)
    stated = struct.unpack(">f", bytes.fromhex(scores["loss"]))[0]
    distance = abs(total / count - stated) / stated
    print(f"{len(answers) - differing} of {len(answers)} greedy answers are the run's")
    print(f"mean loss {total / count:.8f}, the run's {stated:.8f}, relative distance {distance:.2e}")
    sys.exit(1 if differing or (len(answers) == len(scores["answers"]) and distance > 1e-5) else 0)


if __name__ == "__main__":
    main()
