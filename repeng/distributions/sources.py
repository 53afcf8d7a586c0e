"""Where distributions are: folders and files in GENIES' and other layouts, and the names of their splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from repeng.distributions.hub import HubSource, hub_sources
from repeng.distributions.rows import READERS, Rows, read_rows
from repeng.errors import BadInput, path_like

TRAIN_NAMES = ("train", "train_prefs")
TEST_NAMES = ("test", "test_prefs", "validation", "valid", "val", "dev", "eval")
SHARD = re.compile(r"-\d+-of-\d+\.parquet$")
HUB_KEYS = re.compile(r"^(configs|dataset_info):", re.MULTILINE)


@dataclass(frozen=True)
class FileSource:
    """A distribution in files: one per split, or a single one under the split name ''."""

    name: str
    place: str
    files: Mapping[str, Path] = field(hash=False)

    @property
    def origin(self) -> str:
        """Where it is, wherever one stands."""
        return str(Path(self.place).resolve())

    def splits(self) -> Sequence[str]:
        """The splits that have a file."""
        return tuple(self.files)

    def split_place(self, split: str) -> str:
        """The split's file."""
        return str(self.files[split])

    def rows(self, split: str) -> Rows:
        """The rows of the split's file."""
        return read_rows(self.files[split])


Source = FileSource | HubSource
"""One distribution before it is read."""


def choose_splits(available: Sequence[str], place: str) -> dict[str, str]:
    """The given splits that serve as `train` and `test`; or the one to be divided by prompt, under ''.

    With a train split and no test split, a validation split is the test split. A single split that is no
    test split is divided.

    Raises:
        BadInput: several splits, none of a known name.
    """
    train = next((name for name in TRAIN_NAMES if name in available), None)
    test = next((name for name in TEST_NAMES if name in available), None)
    if test is not None:
        return {"test": test} if train is None else {"train": train, "test": test}
    if train is not None or len(available) == 1:
        return {"": available[0] if train is None else train}
    raise BadInput(f"{place} has the splits {', '.join(available) or '(none)'}; name them train and test")


def find_sources(data: str | Path) -> dict[str, Source]:
    """Every distribution under `data`, by name, sorted. Nothing is parsed; a hub dataset is asked for its configs.

    Raises:
        BadInput: there is no such file, folder or hub dataset, or no distribution in it.
    """
    path = Path(data).expanduser()
    if path.is_dir():
        found = _in_folder(path)
    elif path.is_file():
        if path.suffix.lower() not in READERS:
            raise BadInput(f"{path}: data files end in {', '.join(sorted(READERS))}")
        found = [FileSource(path.stem, str(path), {"": path})]
    elif isinstance(data, str) and _may_be_hub_id(data):
        found = list(hub_sources(data))
    else:
        hint = " (a hub dataset is named OWNER/NAME)" if isinstance(data, str) and "/" not in data else ""
        raise BadInput(f"there is no file or folder {str(data)!r}{hint}{path_like(data)}")
    return _by_name(found, str(data))


def _by_name(found: Iterable[Source], data: str) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    for source in found:
        if source.name in sources:
            raise BadInput(
                f"{data} has two distributions named {source.name!r}, {sources[source.name].place} and "
                f"{source.place}; rename one"
            )
        sources[source.name] = source
    return dict(sorted(sources.items()))


def _in_folder(folder: Path, name: str | None = None) -> list[Source]:
    """The distributions of a folder. `name` is what its own split files are called, by default its name."""
    if _is_hub_layout(folder):
        return list(hub_sources(str(folder.resolve())))
    if alone := _split_files(folder):
        return [FileSource(name or folder.resolve().name, str(folder), alone)]
    if (folder / "distributions").is_dir():
        return _in_folder(folder / "distributions")
    found: list[Source] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and (files := _split_files(entry)):
            found.append(FileSource(entry.name, str(entry), files))
        elif entry.is_file() and entry.suffix.lower() in READERS:
            found.append(FileSource(entry.stem, str(entry), {"": entry}))
    if len(found) == 1 and found[0].name == "data" and found[0].place == str(folder / "data"):
        return _in_folder(folder / "data", name=folder.resolve().name)
    if not found:
        raise BadInput(
            f"{folder} holds no distribution: neither NAME/train.json and NAME/test.json nor NAME.jsonl "
            f"(endings: {', '.join(sorted(READERS))})"
        )
    return found


def _split_files(folder: Path) -> dict[str, Path]:
    """Files of a folder that have the names of splits; none unless train or test is among them."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix.lower() in READERS and path.stem in (*TRAIN_NAMES, *TEST_NAMES):
            if path.stem in files:
                raise BadInput(f"{folder} has both {files[path.stem].name} and {path.name}; keep one of them")
            files[path.stem] = path
    return files if {"train", "test"} & files.keys() else {}


def _is_hub_layout(folder: Path) -> bool:
    """Whether a folder is a copy of a hub dataset: shards, or a README that says what lies where."""
    readme = folder / "README.md"
    if readme.is_file():
        text = readme.read_text(encoding="utf-8", errors="replace")
        if text.startswith("---\n") and HUB_KEYS.search(text.split("\n---", 1)[0]):
            return True
    places = (folder, *(entry for entry in folder.iterdir() if entry.is_dir()))
    return any(SHARD.search(path.name) for place in places for path in place.glob("*.parquet"))


def _may_be_hub_id(data: str) -> bool:
    """OWNER/NAME, and not a mistyped path."""
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", data)) and Path(data).suffix.lower() not in READERS
