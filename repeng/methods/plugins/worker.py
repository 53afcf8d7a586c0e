"""The child process of a Python method: imports it, fits it, and answers about targets.

Its argument is a folder with request.json; with --load-only it makes the object and ends. Answers are whole JSON files
in it; what the method prints goes to the log. Nothing here ever holds a target's labels.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from repeng.atomic import write_atomically
from repeng.distributions.schema import Example, Message, Prompt, Question, Split
from repeng.errors import BadInput, did_you_mean


class PythonMethod(Protocol):
    """What a class of your own must have to be a method."""

    def fit(self, model: str, source: Split, *, seed: int) -> object:
        """Learn from the source's train split.

        Args:
            model: hub id or folder of the model under study.
            source: examples with their best responses.
            seed: of every random choice.
        """
        ...

    def score(self, questions: Sequence[Question]) -> Sequence[Sequence[float]]:
        """A score for each response of each question: the higher, the better.

        p(best) of a pair is the softmax of its two scores, so scores in log-odds make calibrated probabilities.
        """
        ...


def load_object(reference: str) -> PythonMethod:
    """The method at `module:name` or `path/file.py:name`; a class or function there is called without arguments.

    Raises:
        BadInput: there is no such object, or it has no `fit` and `score`.
    """
    place, _, name = reference.rpartition(":")
    if place.endswith(".py"):
        path = Path(place).resolve()
        spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise BadInput(f"{place}: no such Python file")
        sys.path.insert(0, str(path.parent))
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            near = did_you_mean(part, [each for each in vars(found) if not each.startswith("_")])
            raise BadInput(f"{place} has no {name}" + (f"; {near}" if near else ""))
        found = getattr(found, part)
    made = found() if isinstance(found, type) or not hasattr(found, "score") else found
    missing = [needed for needed in ("fit", "score") if not callable(getattr(made, needed, None))]
    if missing:
        raise BadInput(
            f"{reference}: {type(made).__name__} has no method {' and no method '.join(missing)}; a method has both, "
            "and a probe derives from a class of repeng.probes"
        )
    result: PythonMethod = made
    return result


def prompt_from(value: Any) -> Prompt:
    """A prompt as its JSON has it: text, or a list of [role, content]."""
    return value if isinstance(value, str) else tuple(Message(role, content) for role, content in value)


def serve(folder: Path, *, load_only: bool = False) -> None:
    """Fit, then answer about each target; what goes wrong in one answer is said in its file."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    if load_only:
        try:
            load_object(request["object"])
        except Exception as error:
            _write(folder / "fitted.json", _told(error))
        else:
            _write(folder / "fitted.json", {})
        return
    examples = tuple(
        Example(prompt_from(prompt), tuple(texts), tuple(right)) for prompt, texts, right in request["examples"]
    )
    source = Split(request["distribution"], request["split"], examples)
    try:
        method = load_object(request["object"])
        method.fit(request["model"], source, seed=request["seed"])
    except Exception as error:
        # Somebody else's code raises what it likes; the parent says so.
        _write(folder / "fitted.json", _told(error))
        return
    _write(folder / "fitted.json", {})
    for number, target in enumerate(request["targets"]):
        questions = [Question(prompt_from(prompt), tuple(responses)) for prompt, responses in target]
        try:
            answer = {"scores": [[float(score) for score in each] for each in method.score(questions)]}
        except Exception as error:
            answer = _told(error)
        _write(folder / f"answer-{number}.json", answer)


def _told(error: Exception) -> dict[str, Any]:
    traceback.print_exc()
    return {"error": str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"}


def _write(path: Path, value: dict[str, Any]) -> None:
    sys.stdout.flush()
    write_atomically(path, json.dumps(value))


if __name__ == "__main__":
    serve(Path(sys.argv[1]), load_only="--load-only" in sys.argv[2:])
