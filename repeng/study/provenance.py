"""What a study was made of: the model by its files, and every split that it fitted on or asked about."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from repeng.atomic import write_atomically
from repeng.benchmarks.shift_lists import BENCHMARKS
from repeng.distributions.schema import Split
from repeng.errors import BadInput
from repeng.limits import RECORD_BYTES, read_bounded
from repeng.models.fingerprint import Identity
from repeng.places import Place
from repeng.study.settings import Study
from repeng.version import __version__

if TYPE_CHECKING:
    from repeng.study.model_settings import ModelSettings

FILE = "provenance.json"


@dataclass(frozen=True)
class SplitRecord:
    """One split of one distribution.

    Attributes:
        examples: how many.
        prompts: groups that are resampled as one, such as prompts of equal text.
        pairs: of a right response and a wrong one.
        responses: texts that were scored.
        as_texts: whether it is asked about text by text.
        data_hash: twelve digits over texts and labels.
        place: where it was read, the home folder as `~`; empty for data that were made in memory.
    """

    distribution: str
    split: str
    examples: int
    prompts: int
    pairs: int
    responses: int
    as_texts: bool
    data_hash: str
    place: str

    @classmethod
    def of(cls, split: Split) -> SplitRecord:
        """That of a loaded split."""
        return cls(
            split.distribution,
            split.name,
            len(split.examples),
            len(split.prompt_hashes),
            len(split.pairs),
            split.n_responses,
            split.as_texts,
            split.data_hash,
            "" if split.origin is None else from_home(split.origin.place),
        )


@dataclass(frozen=True)
class Provenance:
    """What a study's figures follow from besides its settings.

    Attributes:
        repeng_version: which repeng made it.
        versions: of Python and of the libraries that compute activations.
        model: by its files; its name with the home folder as `~`.
        capture: where its activations are in a store.
        storage_dtype: what they are stored in.
        benchmark: the name of the list of shifts.
        splits: fitted on or asked about, by distribution, train before test.
    """

    repeng_version: str
    versions: dict[str, str]
    model: Identity
    capture: str
    storage_dtype: str
    benchmark: str
    splits: tuple[SplitRecord, ...]

    @classmethod
    def of(cls, settings: ModelSettings, benchmark: str, splits: Iterable[Split]) -> Provenance:
        """That of a study's model and splits, each once."""
        # It brings torch, which a report needs not.
        from repeng.activations.store.request import library_versions

        listed = sorted(set(splits), key=lambda split: (split.distribution, split.name != "train", split.name))
        identity = settings.identity
        named = Identity(**{**asdict(identity), "model": from_home(identity.model)})
        versions = library_versions(identity)
        records = tuple(map(SplitRecord.of, listed))
        return cls(__version__, versions, named, settings.capture_id, settings.storage_dtype, benchmark, records)

    def of_splits(self, name: str) -> list[SplitRecord]:
        """The splits of a name, as `train`."""
        return [one for one in self.splits if one.split == name]


def from_home(place: str) -> str:
    """A place, or several in one text, with the home folder as `~`."""
    home = str(Path.home()).rstrip("/")
    return place.replace(f"{home}/", "~/") if home else place


def asks_genies(study: Study) -> bool:
    """Whether a study's shifts are a list of GENIES' that comes with repeng, rather than a file of that name."""
    return study.benchmark in BENCHMARKS and study.benchmark != "mini"


def write_provenance(provenance: Provenance, folder: Place) -> None:
    """Write FOLDER/provenance.json."""
    write_atomically(folder / FILE, json.dumps(asdict(provenance), ensure_ascii=False, indent=1) + "\n")


def read_provenance_of(folder: Place) -> Provenance | None:
    """That of FOLDER/provenance.json; None where a folder, as of an earlier version, has no such file.

    Raises:
        BadInput: the file is not what it should be.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return TypeAdapter(Provenance).validate_json(read_bounded(path, RECORD_BYTES))
    except (ValidationError, OSError) as error:
        raise BadInput(f"{path}: not a study's provenance ({type(error).__name__}); run the study again") from error
