"""What a reader of a study should know: what can be told before it runs, and what its end shows."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from repeng.atomic import write_atomically
from repeng.distributions.cautions import MOST_NAMED, Caution, data_cautions, own_sources
from repeng.distributions.overlap import find_overlaps
from repeng.errors import BadInput
from repeng.metrics import Evaluation, cell_p, holm
from repeng.metrics.intervals import CHANCE
from repeng.places import Place
from repeng.results.verdicts import LEVEL

if TYPE_CHECKING:
    from repeng.benchmarks.loaded import LoadedBenchmark

FILE = "cautions.json"


@dataclass(frozen=True)
class Failure:
    """A method that could not be fitted or scored, and why. The rest of the study is unharmed."""

    method: str
    source: str
    target: str
    reason: str

    @property
    def cause(self) -> str:
        """The reason without this failure's own names and numbers, so that many failures of one cause have one."""
        names = "|".join(re.escape(name) for name in sorted({self.method, self.source, self.target}, key=len)[::-1])
        bare = re.sub(rf"(?<!\w)({names})(/(train|test))?(?!\w)", "*", self.reason)
        return re.sub(r"\b[0-9a-f]{12}\b|\d+", "#", bare)


def benchmark_cautions(world: LoadedBenchmark) -> list[Caution]:
    """Those of the data of a benchmark, where every source is fitted on and asked about itself and its targets."""
    of, shifts = world.distributions, world.benchmark.shifts
    names = [pair for s in shifts for pair in ((s.source, s.target), (s.source, s.source))]
    names += [(shift.target_reference,) * 2 for shift in shifts if "train" in of[shift.target_reference].splits]
    fitted = [(of[source].train, of[target].test) for source, target in dict.fromkeys(names)]
    trains, tests = [train for train, _ in fitted], [test for _, test in fitted]
    found = data_cautions(trains, tests, find_overlaps(fitted))
    return [*left_out_cautions(world), *found, *own_sources(() if world.every_pair else shifts, of)]


def left_out_cautions(world: LoadedBenchmark) -> list[Caution]:
    """That of shifts whose data are not there, if there are any."""
    if not world.left_out:
        return []
    named = f"{world.left_out} of the {world.left_out + len(world.benchmark.shifts)} shifts of {world.benchmark.name}"
    return [Caution("left_out", named, "no " + ", ".join(world.missing))]


def null_cautions(own: Mapping[tuple[str, str], Evaluation]) -> list[Caution]:
    """Probes that do not beat their own null at home, by Holm's correction over all of a study.

    Args:
        own: for each method and source its evaluation on that source's test split.
    """
    tested = {
        names: p
        for names, evaluation in own.items()
        if evaluation.shuffled is not None and (p := cell_p(evaluation)) is not None
    }
    corrected = zip(tested, holm(list(tested.values())), strict=True)
    return [
        Caution("no_better_than_null", f"{method} on {source}", f"{own[method, source].accuracy:.2f}")
        for (method, source), p in corrected
        if p >= LEVEL or own[method, source].accuracy < CHANCE
    ]


def version_cautions(store: Place, capture: str) -> list[Caution]:
    """A store's capture of that id, where libraries of other versions than those that are installed began it."""
    # They bring torch, which a report needs not.
    from repeng.activations.store.files import CAPTURE
    from repeng.activations.store.records import CaptureRecord
    from repeng.activations.store.request import changed_versions

    file = store.expanduser() / capture / CAPTURE
    changed = changed_versions(CaptureRecord.read(file)) if file.is_file() else {}
    said = [f"{name} {then}, now {now}" for name, (then, now) in changed.items() if name != "python"]
    return [Caution("versions", capture, "; ".join(said))] if said else []


def failure_cautions(failures: Iterable[Failure]) -> list[Caution]:
    """One a cause: of which methods, how often, an example, and why. The most frequent first."""
    by_cause: dict[str, list[Failure]] = {}
    for failure in failures:
        by_cause.setdefault(failure.cause, []).append(failure)
    found = []
    for own in sorted(by_cause.values(), key=len, reverse=True):
        methods = [method for method, _ in Counter(failure.method for failure in own).most_common()]
        more = f" and {len(methods) - MOST_NAMED} more" if len(methods) > MOST_NAMED else ""
        example = f"{own[0].source} -> {own[0].target}"
        where = f"{', '.join(methods[:MOST_NAMED])}{more} on {len(own)} evaluation(s), as {example}"
        found.append(Caution("failed", where, own[0].reason))
    return found


def write_cautions(cautions: Sequence[Caution], folder: Place) -> None:
    """Write FOLDER/cautions.json, from which a report has what results.csv does not tell."""
    rows = ",\n".join(f" {json.dumps(asdict(caution), ensure_ascii=False)}" for caution in cautions)
    write_atomically(folder / FILE, f"[\n{rows}\n]\n" if rows else "[]\n")


def read_cautions(folder: Place) -> list[Caution]:
    """Those of FOLDER/cautions.json; none where a folder, as of an earlier version, has no such file.

    Raises:
        BadInput: the file is not what it should be.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        return TypeAdapter(list[Caution]).validate_json(path.read_bytes(), strict=True)
    except (ValidationError, OSError) as error:
        raise BadInput(f"{path}: not a list of cautions ({type(error).__name__}); run the study again") from error
