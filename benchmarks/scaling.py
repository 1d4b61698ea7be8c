#!/usr/bin/env python3
"""Whether preparation and training cost the same a row with a thousand rows of data as with a million.

    python3 benchmarks/scaling.py --tune target/release/tune --recipe recipes/quickstart.yaml

For each size it writes that many rows like those of the quickstart to a temporary folder, prepares them with
`tune data audit`, trains a few steps with `tune bench`, and prints a line of a Markdown table. Needs Linux or macOS, and
some 500 MB below the temporary folder (`TMPDIR`) for a million rows. Only the standard library is used.
"""

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = [1_000, 10_000, 100_000, 1_000_000]
# What every command costs before the first row: starting, hashing the model. Measured with as many rows, it is taken off.
FEW = 200

WHO = "Ada Bela Carl Dora Emil Fay Gus Hana Ivo Jana Kurt Lena Mina Nina Otto Petra Quinn Rosa Sven Tara".split()
WHAT = "apples books boxes caps coins cups drums flags forks hats keys lamps maps pens rings shirts".split()
COLOUR = "black blue brown green orange red white yellow".split()
WHERE = "Accra Cairo Lagos Lima London Oslo Paris Quito Rome Tokyo".split()
WHEN = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def write_rows(path, count):
    """Writes rows of the quickstart's shape; the same ones each time, and nearly all different."""
    draw = random.Random(count)
    with open(path, "w", encoding="utf-8") as out:
        for _ in range(count):
            who, what, when = draw.choice(WHO), draw.choice(WHAT), draw.choice(WHEN)
            number = draw.randrange(2, 10_000)
            answer = json.dumps({"who": who, "count": number, "what": what, "when": when}, separators=(",", ":"))
            prompt = f"{who} bought {number} {draw.choice(COLOUR)} {what} in {draw.choice(WHERE)} on {when}.\n"
            out.write(json.dumps({"completion": answer, "prompt": prompt}) + "\n")


def timed(command):
    """Runs a command. Gives its standard output, the seconds it took, and the most memory it had at once, in bytes."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=err)
        # `getrusage` would give the largest of all children so far.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}\nended with {process.returncode}:\n{err.read().decode()}")
        unit = 1 if sys.platform == "darwin" else 1024
        return out.read().decode(), seconds, usage.ru_maxrss * unit


class Case:
    """A data set of a size, with a copy of the recipe beside it, so that its lock is its own."""

    def __init__(self, folder, arguments, rows):
        self.rows, self.folder = rows, Path(folder)
        text = Path(arguments.recipe).read_text(encoding="utf-8")
        model = re.search(r"^base_model:\s*([^\s#]+)", text, re.MULTILINE)
        if model is None:
            sys.exit(f"{arguments.recipe} names no `base_model`")
        place = (Path(arguments.recipe).resolve().parent / model[1]).resolve()
        (self.folder / "recipe.yaml").write_text(text, encoding="utf-8")
        self.settings = [f"datasets.0.path={self.folder / 'rows.jsonl'}"]
        if place.exists():
            self.settings.append(f"base_model={place}")
        write_rows(self.folder / "rows.jsonl", rows)
        self.tune = [str(Path(arguments.tune).resolve())]

    def prepare(self):
        """Prepares the rows. Gives tokens, seconds and peak memory."""
        out, seconds, peak = timed([*self.tune, "data", "audit", self.folder / "recipe.yaml", *self.settings])
        return int(re.search(r"^tokens: (\d+)", out, re.MULTILINE)[1]), seconds, peak

    def train(self, steps):
        """Trains some steps. Gives tokens a second and peak memory, preparation included."""
        command = [*self.tune, "bench", self.folder / "recipe.yaml", *self.settings, "--steps", str(steps), "--json"]
        out, _, peak = timed(command)
        return json.loads(out)["tokens_per_second"], peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tune", required=True, help="the binary")
    parser.add_argument("--recipe", required=True, help="recipes/quickstart.yaml, or one with columns like it")
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="sizes in place of 1,000 to 1,000,000")
    parser.add_argument("--steps", type=int, default=20, help="training steps to measure")
    arguments = parser.parse_args()
    if hasattr(resource, "RLIMIT_CORE"):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        start = min(Case(folder, arguments, FEW).prepare()[1] for _ in range(3))
    print(f"Before the first row, and taken off below: {start:.2f} s.\n")
    print("| rows | tokens | preparation, s | µs a row | tokens/s in training | peak in preparation, MB | with training, MB |")
    print("|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            case = Case(folder, arguments, rows)
            tokens, seconds, peak = case.prepare()
            speed, peak_in_training = case.train(arguments.steps)
        each = (seconds - start) / (rows - FEW) * 1e6
        memory = f"{peak / 1e6:.0f} | {peak_in_training / 1e6:.0f}"
        print(f"| {rows:,} | {tokens:,} | {seconds - start:.2f} | {each:.1f} | {speed:,.0f} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
