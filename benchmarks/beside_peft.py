#!/usr/bin/env python3
"""Measures `tune` beside Hugging Face PEFT, one after the other in rounds, and prints medians and ratios as Markdown.

    python benchmarks/beside_peft.py --tune target/release/tune --python data/venv/bin/python --model data/smollm2 \\
        --data data/gsm8k/train.jsonl --rounds 5 --series every-token

`every-token`: 4 rows of 256 tokens a step, every token supervised. Tokens a second of the median step, of both.

`packed-gsm8k`: `tune` packs GSM8K into rows of 512 tokens, PEFT pads batches of 4 examples. Supervised tokens a second,
all tokens over all seconds, of both. A step of `tune` holds about as many examples as four of PEFT, which therefore
takes four times as many steps.

Each figure comes from a process of its own. Ratios are taken within a round and only then summed up, so that a machine
that is slower for a while is slower for both.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

import rows

HERE = Path(__file__).resolve().parent
RECIPES = {
    "every-token": HERE / "every-token.yaml",
    "packed-gsm8k": HERE.parent / "recipes" / "smollm2-135m-gsm8k.yaml",
}
PEFT_MODES = {"every-token": "every-token", "packed-gsm8k": "padded"}
UNITS = {"every-token": "tokens/s", "packed-gsm8k": "supervised tokens/s"}
PEFT_STEPS_PER_STEP = {"every-token": 1, "packed-gsm8k": 4}


def machine():
    """The processor, its cores and what else runs on it, in one line."""
    processor = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
            break
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return f"{processor}, {os.cpu_count()} cores, load average {load}"


def prepare(options, folder):
    """Puts recipe, lock and data into `folder`, so that nothing is written into the repository."""
    shutil.copy(RECIPES[options.series], folder / "recipe.yaml")
    shutil.copy(HERE.parent / "datasets.lock", folder)
    if options.series == "every-token":
        rows.write(options.data, folder / "full-rows.jsonl")
        return folder / "full-rows.jsonl"
    return options.data


def peft_command(options, dtype):
    """Measures PEFT."""
    mode = PEFT_MODES[options.series]
    steps = options.steps * PEFT_STEPS_PER_STEP[options.series]
    command = [options.python, HERE / "peft.py", mode, "--model", options.model, "--data", options.data]
    return [*command, "--dtype", dtype, "--steps", str(steps), "--threads", str(options.threads)]


def tune_command(options, folder, data, settings):
    """Measures `tune`."""
    command = [options.tune, "--quiet", "bench", folder / "recipe.yaml", f"datasets.0.path={data}"]
    if options.series == "every-token":
        # One step more warms up.
        command.append(f"max_steps={options.steps + 1}")
    return [*command, *settings, "--steps", str(options.steps), "--json"]


def contestants(options, folder, data):
    """Name and command of everything that runs in a round, in turn."""
    found = {"PEFT, f32": peft_command(options, "f32")}
    if options.bf16:
        found["PEFT, bf16"] = peft_command(options, "bf16")
    found["tune"] = tune_command(options, folder, data, [])
    if options.series == "every-token":
        found["tune, gradient checkpointing"] = tune_command(options, folder, data, ["gradient_checkpointing=true"])
    return found


def speed(steps, series):
    """The figure of a process, taken in the same way from the steps of both."""
    if series == "every-token":
        return statistics.median(step["tokens"] / step["seconds"] for step in steps)
    return sum(step["supervised_tokens"] for step in steps) / sum(step["seconds"] for step in steps)


def measure(options, command):
    """Runs a command and reads its JSON: speed, peak memory, and all of it."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(options.threads)}
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(str(part) for part in command)}\nexit code {done.returncode}\n{done.stderr}")
    result = json.loads(done.stdout)
    expected = int(command[command.index("--steps") + 1])
    if len(result["steps"]) != expected:
        raise SystemExit(f"{command[0]}: {len(result['steps'])} steps were measured instead of {expected}")
    return speed(result["steps"], options.series), result["peak_rss_bytes"], result


def run_rounds(options, found):
    """Speeds and peaks of every contestant, one of each a round."""
    speeds = {name: [] for name in found}
    peaks = {name: [] for name in found}
    versions = None
    for number in range(1, options.rounds + 1):
        for name, command in found.items():
            figure, peak, result = measure(options, command)
            if versions is None and "peft" in result:
                versions = f"PEFT {result['peft']}, transformers {result['transformers']}, torch {result['torch']}"
                print(versions, flush=True)
            speeds[name].append(figure)
            peaks[name].append(peak)
            print(f"round {number}: {name}: {figure:.1f} {UNITS[options.series]}, {peak / 1e9:.2f} GB", flush=True)
    return speeds, peaks


def spread(values, digits):
    """Median, smallest and largest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def tables(options, speeds, peaks):
    """Both tables: what was measured, and `tune` over PEFT."""
    lines = [f"| median (least to most) | {UNITS[options.series]} | peak memory, GB |", "|---|---|---|"]
    for name in speeds:
        memory = spread([peak / 1e9 for peak in peaks[name]], 2)
        lines.append(f"| {name} | {spread(speeds[name], 0)} | {memory} |")
    lines += ["", "| ratio of each round, median (least to most) | speed | peak memory |", "|---|---|---|"]
    for ours in [name for name in speeds if name.startswith("tune")]:
        for theirs in [name for name in speeds if name.startswith("PEFT")]:
            faster = [a / b for a, b in zip(speeds[ours], speeds[theirs], strict=True)]
            larger = [a / b for a, b in zip(peaks[ours], peaks[theirs], strict=True)]
            lines.append(f"| {ours} over {theirs} | {spread(faster, 2)} | {spread(larger, 2)} |")
    return "\n".join(lines)


def parse():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--tune", required=True, type=Path, help="the binary")
    arguments.add_argument("--python", required=True, type=Path, help="the Python that has torch and PEFT")
    arguments.add_argument("--model", required=True, type=Path, help="the model as a Hugging Face folder")
    arguments.add_argument("--data", required=True, type=Path, help="train.jsonl of GSM8K")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--series", required=True, choices=list(RECIPES))
    arguments.add_argument("--bf16", action="store_true", help="measure PEFT in bf16 as well")
    arguments.add_argument("--steps", type=int, default=5, help="steps to measure, after one that warms up")
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both")
    options = arguments.parse_args()
    if options.rounds < 1 or options.steps < 1 or options.threads < 1:
        arguments.error("--rounds, --steps and --threads are at least 1")
    # Paths are seen from the current folder. A link to Python stays a link: it stands for its environment.
    for name in ["tune", "python", "model", "data"]:
        path = getattr(options, name).absolute()
        if not path.exists():
            arguments.error(f"--{name}: {path} does not exist")
        setattr(options, name, path)
    return options


def main():
    options = parse()
    print(machine(), flush=True)
    settings = f"rounds {options.rounds}, steps {options.steps}, threads {options.threads}"
    print(f"series {options.series}; {settings}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = prepare(options, folder)
        speeds, peaks = run_rounds(options, contestants(options, folder, data))
    print()
    print(tables(options, speeds, peaks))


if __name__ == "__main__":
    main()
