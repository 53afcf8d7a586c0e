"""Scores every pair of each distribution's test split. Of what it writes only `eval_accuracy` is required."""

import argparse
import ast
import json
import math
from pathlib import Path

from train import words


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_dir", required=True, help="the folder that train.py wrote")
    parser.add_argument("--distribution_dirs", required=True, type=ast.literal_eval, help="a Python list of folders")
    parser.add_argument("--output_paths", required=True, type=ast.literal_eval, help="a Python list of files")
    arguments = parser.parse_args()

    weights = json.loads((Path(arguments.model_dir) / "weights.json").read_text())

    def score(response: str) -> float:
        return sum(weights.get(word, 0.0) for word in words(response))

    for folder, path in zip(arguments.distribution_dirs, arguments.output_paths, strict=True):
        probabilities = []
        for example in json.loads((Path(folder) / "test.json").read_text()):
            best = next(text for text, label in example["responses"].items() if label == 1)
            for worse in (text for text, label in example["responses"].items() if label == 0):
                probabilities.append(1 / (1 + math.exp(-max(-500, min(500, score(best) - score(worse))))))
        accuracy = sum((p > 0.5) + 0.5 * (p == 0.5) for p in probabilities) / len(probabilities)
        Path(path).write_text(json.dumps({"eval_accuracy": accuracy, "eval_probabilities": probabilities}))


if __name__ == "__main__":
    main()
