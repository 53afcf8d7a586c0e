"""A method in GENIES' own protocol: words that best responses use more than worse ones, counted in the source.

It needs nothing but Python. A real one would load the base model from --model_dir.
"""

import argparse
import json
import math
import re
from collections import Counter
from pathlib import Path


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_dir", required=True, help="base model; unused here")
    parser.add_argument("--training_distribution_dir", required=True, help="folder with train.json and test.json")
    parser.add_argument("--test_distribution_dirs", help="what it will be tested on; unused here")
    parser.add_argument("--output_dir", required=True, help="where eval.py finds what was learned, as its --model_dir")
    arguments = parser.parse_args()

    counts = {1: Counter(), 0: Counter()}
    for example in json.loads((Path(arguments.training_distribution_dir) / "train.json").read_text()):
        for response, score in example["responses"].items():
            counts[int(score)].update(words(response))
    total = {label: sum(counter.values()) + 1 for label, counter in counts.items()}
    weights = {
        word: math.log((counts[1][word] + 1) / total[1]) - math.log((counts[0][word] + 1) / total[0])
        for word in {*counts[0], *counts[1]}
    }
    output = Path(arguments.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    (output / "weights.json").write_text(json.dumps(weights))


if __name__ == "__main__":
    main()
