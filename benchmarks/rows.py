#!/usr/bin/env python3
"""Makes long texts from GSM8K: ten problems with their answers to a text.

    python benchmarks/rows.py data/gsm8k/train.jsonl data/full-rows.jsonl

Each line of the result has one column, `text`. Ten problems are far more than 256 tokens, so that every row truncated
to 256 tokens is full. Problems left over at the end are not used.
"""

import argparse
import json
from pathlib import Path

PROBLEMS = 10


def texts(path):
    """The texts made from the problems in `path`, in the file's order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    problems = [json.loads(line) for line in lines if line.strip()]
    whole = len(problems) - len(problems) % PROBLEMS
    for start in range(0, whole, PROBLEMS):
        parts = [f"{problem['question']}\n{problem['answer']}" for problem in problems[start : start + PROBLEMS]]
        yield "\n\n".join(parts)


def write(source, target):
    """Writes the texts to `target` and gives their number."""
    count = 0
    with target.open("w", encoding="utf-8") as file:
        for text in texts(source):
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            count += 1
    return count


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("source", type=Path, help="train.jsonl of GSM8K")
    arguments.add_argument("target", type=Path, help="the file to write")
    options = arguments.parse_args()
    options.target.parent.mkdir(parents=True, exist_ok=True)
    print(f"{write(options.source, options.target)} texts written to {options.target}")


if __name__ == "__main__":
    main()
