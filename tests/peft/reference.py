#!/usr/bin/env python3
"""What transformers and PEFT make of the recipe beside this file, step by step: writes losses.json.

    cargo build --release
    python -m venv venv && venv/bin/pip install torch transformers peft
    venv/bin/python tests/peft/reference.py --tune target/release/tune

From `tune` come the rows (`tune data export`), the initial adapter (checkpoint of step 0) and the optimizer's constants
(the manifest). Model, loss, gradients, clipping, AdamW and the schedule are those of the peers. `tests/peft.rs` compares
the losses of `tune` with the result; run this again when the recipe, the rows or the base model change.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers

HERE = Path(__file__).resolve().parent
IGNORED = -100


def prepare(tune, folder):
    """Runs the recipe in `folder` and exports its rows."""
    for name in ["recipe.yaml", "instructions.jsonl", "conversations.jsonl"]:
        shutil.copy(HERE / name, folder)
    shutil.copytree(HERE.parent.parent / "models" / "quickstart-base", folder / "base")
    for command in [["run", "recipe.yaml", "output_dir=run"], ["data", "export", "recipe.yaml", "--out", "rows.jsonl"]]:
        subprocess.run([tune, "--quiet", *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def row_loss(model, row):
    """Sum of the losses of a row's supervised tokens, each seeing only its own segment."""
    segments = torch.tensor(row["segment_ids"])
    visible = (segments[:, None] == segments[None, :]).tril()
    mask = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
    logits = model(
        input_ids=torch.tensor([row["input_ids"]]),
        position_ids=torch.tensor([row["position_ids"]]),
        attention_mask=mask[None, None],
    ).logits[0]
    labels = torch.tensor(row["labels"])
    return torch.nn.functional.cross_entropy(logits[:-1], labels[1:], ignore_index=IGNORED, reduction="sum")


def train(folder):
    """Losses and gradient norms of every step."""
    constants = json.loads((folder / "run/manifest.json").read_text())["claim"]["training"]
    steps = defaultdict(list)
    for line in (folder / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        steps[row["step"]].append(row)
    base = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "base", dtype=torch.float32, attn_implementation="eager"
    )
    model = peft.PeftModel.from_pretrained(base, folder / "run/checkpoints/step-000000", is_trainable=True)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        weights,
        lr=2e-3,
        betas=(constants["adam_beta1"], constants["adam_beta2"]),
        eps=constants["adam_epsilon"],
        weight_decay=constants["weight_decay"],
    )
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 4, len(steps))
    losses, norms = [], []
    for step in sorted(steps):
        supervised = sum(label != IGNORED for row in steps[step] for label in row["labels"][1:])
        loss = sum(row_loss(model, row) for row in steps[step]) / supervised
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(weights, constants["max_grad_norm"]).item())
        losses.append(loss.item())
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return losses, norms


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--tune", required=True, type=Path, help="the binary")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(arguments.parse_args().tune.resolve(), folder)
        losses, norms = train(folder)
        result = {
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
            "peft": peft.__version__,
            "rows": "sha256:" + hashlib.sha256((folder / "rows.jsonl").read_bytes()).hexdigest(),
            "losses": losses,
            "grad_norms": norms,
        }
    (HERE / "losses.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
