"""The child process of a Python intervention: imports it, fits it, and answers questions until its input ends.

Each line of input names a request file and an answer file. Answers are whole JSON files; what the intervention prints
goes to the log. Nothing here ever holds a target's labels.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from repeng.atomic import write_atomically
from repeng.distributions.schema import Example, Message, Prompt, Split
from repeng.errors import BadInput
from repeng.methods.plugins.python_object import PythonMethod, Question


def load_object(reference: str) -> PythonMethod:
    """The intervention at `module:name` or `path/file.py:name`; a class or function there is called without arguments.

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
            raise BadInput(f"{reference}: {place} has no {name}")
        found = getattr(found, part)
    made = found() if isinstance(found, type) or not hasattr(found, "score") else found
    missing = [method for method in ("fit", "score") if not callable(getattr(made, method, None))]
    if missing:
        raise BadInput(f"{reference}: {type(made).__name__} has no method {' and no method '.join(missing)}")
    result: PythonMethod = made
    return result


def prompt_from(value: Any) -> Prompt:
    """A prompt as its JSON has it: text, or a list of [role, content]."""
    return value if isinstance(value, str) else tuple(Message(role, content) for role, content in value)


def serve() -> None:
    """Answer requests until the input ends. The first must be a fit."""
    intervention: PythonMethod | None = None
    for line in sys.stdin:
        request_path, answer_path = json.loads(line)
        request = json.loads(Path(request_path).read_text(encoding="utf-8"))
        try:
            if intervention is None:
                intervention = load_object(request["object"])
                examples = tuple(
                    Example(prompt_from(prompt), tuple(responses), best)
                    for prompt, responses, best in request["examples"]
                )
                source = Split(request["distribution"], request["split"], examples)
                intervention.fit(request["model"], source, seed=request["seed"])
                answer: dict[str, Any] = {"fitted": True}
            else:
                questions = [
                    Question(prompt_from(prompt), tuple(responses)) for prompt, responses in request["questions"]
                ]
                scores = intervention.score(questions)
                answer = {"scores": [[float(score) for score in each] for each in scores]}
        except Exception as error:  # somebody else's code raises what it likes; the parent says so
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        write_atomically(Path(answer_path), json.dumps(answer))
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
