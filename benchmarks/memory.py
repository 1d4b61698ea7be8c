#!/usr/bin/env python3
"""What `tune plan` estimates beside what `tune bench` then uses, for several configurations.

  python benchmarks/memory.py --tune target/release/tune --data data/gsm8k/train.jsonl [--steps 2]

Prints a Markdown table. The recipes are those of the repository; run it in the repository's root.
"""

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

SMOLLM2, QUICKSTART = "smollm2-135m-gsm8k.yaml", "quickstart.yaml"

# A name for people, the recipe, and what it is given on the command line.
CONFIGURATIONS = [
    ("SmolLM2, 4 × 512", SMOLLM2, []),
    ("SmolLM2, 1 × 512", SMOLLM2, ["micro_batch_size=1"]),
    ("SmolLM2, 4 × 512, checkpointing", SMOLLM2, ["gradient_checkpointing=true"]),
    ("SmolLM2, 4 × 512, kept quantised", SMOLLM2, ["keep_quantized=true"]),
    ("SmolLM2, 1 × 256, checkpointing, kept quantised", SMOLLM2,
     ["micro_batch_size=1", "sequence_len=256", "gradient_checkpointing=true", "keep_quantized=true"]),
    ("SmolLM2, 2 × 1024, r = 64", SMOLLM2, ["micro_batch_size=2", "sequence_len=1024", "lora_r=64"]),
    ("SmolLM2, 8 × 512, two modules", SMOLLM2, ["micro_batch_size=8", "lora_target_modules=[q_proj, v_proj]"]),
    ("SmolLM2, 2 × 256, every token", SMOLLM2,
     ["micro_batch_size=2", "sequence_len=256", "train_on_inputs=true"]),
    ("quickstart", QUICKSTART, []),
    ("quickstart, all weights", QUICKSTART, ["adapter=none"]),
]


def output_of(command: list[str], folder: Path) -> str:
    """Standard output of a command that must succeed."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{result.stderr}")
    return result.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tune", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2)
    arguments = parser.parse_args()
    tune, data = str(arguments.tune.resolve()), str(arguments.data.resolve())
    with tempfile.TemporaryDirectory() as name:
        # A copy, so that neither lock nor run folders of the repository change.
        folder = Path(name)
        for part in ["recipes", "models"]:
            shutil.copytree(part, folder / part)
        shutil.copy("datasets.lock", folder)
        print("| configuration | estimate | used | estimate / used |\n|---|---|---|---|")
        for label, recipe, overrides in CONFIGURATIONS:
            settings = [f"recipes/{recipe}", "max_steps=4", *overrides]
            if recipe == SMOLLM2:
                settings.append(f"datasets.0.path={data}")
            plan = output_of([tune, "plan", *settings], folder)
            estimate = float(re.search(r"^memory \(estimate\)\s+([\d.]+) GB", plan, re.MULTILINE)[1])
            bench = json.loads(output_of([tune, "bench", *settings, "--json", "--steps", str(arguments.steps)], folder))
            used = bench["peak_rss_bytes"] / 1e9
            print(f"| {label} | {estimate:.2f} GB | {used:.2f} GB | {estimate / used:.2f} |", flush=True)


if __name__ == "__main__":
    main()
