"""Which distributions and shifts the name of a benchmark means, and where their data is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from repeng.atomic import write_atomically
from repeng.benchmarks.fetch import fetched_folder
from repeng.benchmarks.shift_lists import get_benchmark
from repeng.distributions.known import data_name
from repeng.distributions.load import list_distributions, load_distributions, write_genies
from repeng.distributions.reading import Reading
from repeng.distributions.schema import Benchmark, Distribution, Shift
from repeng.distributions.statements import write_statements
from repeng.errors import BadInput, UnknownName

FORMS: Mapping[str, Callable[[Distribution, Path], None]] = {"genies": write_genies, "statements": write_statements}
"""How distributions can be written."""


@dataclass(frozen=True)
class LoadedBenchmark:
    """A benchmark with the data of every distribution that it names.

    Attributes:
        every_pair: True where no shifts were named, and every distribution is set against every one, itself too.
        left_out: shifts that the benchmark has too, and of which a distribution is not there.
        missing: these distributions.
    """

    benchmark: Benchmark
    distributions: dict[str, Distribution]
    every_pair: bool = False
    left_out: int = 0
    missing: tuple[str, ...] = ()

    def only(self, names: Sequence[str]) -> LoadedBenchmark:
        """Of its distributions these alone, and the shifts between them.

        Raises:
            UnknownName: one is not among them.
        """
        for name in names:
            if name not in self.distributions:
                raise UnknownName("distribution", name, self.distributions)
        shifts = (one for one in self.benchmark.shifts if {one.source, one.target, one.target_reference} <= {*names})
        found = {name: self.distributions[name] for name in names}
        return replace(self, benchmark=replace(self.benchmark, shifts=tuple(shifts)), distributions=found)


def load_benchmark(
    benchmark: str | None,
    data: str | None,
    *,
    limit: int | None = None,
    benign: str = "",
    reading: Reading | None = None,
    partial: bool = False,
) -> LoadedBenchmark:
    """Load the shifts of a study and their data.

    Args:
        benchmark: a benchmark's name or a shift file; None means `mini`, or with `data` every distribution of the
            data against every one.
        data: where the distributions are, `mini` for the embedded ones; None means the benchmark's own data, embedded
            or fetched.
        limit: only this many examples of each split, from the first.
        benign: a distribution to be loaded besides, which no shift may ask about; empty for none.
        reading: what the columns and labels of `data` mean, where their names do not say it.
        partial: leave out shifts whose distributions are not in the data, where there are others.

    Raises:
        BadInput: a distribution that a shift names is not in the data, or there is no data; a shift's target is the
            benign distribution.
        BadData: the data is wrong.
    """
    if benchmark is None and data is not None:
        distributions = load_named(data, limit=limit, reading=reading)
        if benign and benign not in distributions:
            raise UnknownName("distribution (--benign)", benign, distributions)
        names = tuple(name for name in distributions if name != benign)
        if not names:
            raise BadInput(f"{data} holds the benign distribution {benign} alone; give others to be asked about")
        sources = tuple(name for name in names if "train" in distributions[name].splits)
        shifts = tuple(Shift(source, target) for source in sources for target in names)
        return LoadedBenchmark(Benchmark(data_name(data), shifts), distributions, every_pair=True)
    chosen = get_benchmark(benchmark or "mini")
    if benign in {name for shift in chosen.shifts for name in (shift.target, shift.target_reference)} - {""}:
        raise BadInput(
            f"{benign} is a target of the benchmark {chosen.name}, and thresholds must not be set on what is asked "
            "about: name another distribution with --benign, or take it out of the shifts"
        )
    wanted = tuple(dict.fromkeys([*chosen.distributions, *([benign] if benign else [])]))
    if data == "mini" or (data is None and chosen.name == "mini"):
        from repeng.benchmarks.mini import mini_distributions

        _refuse_reading(reading)
        names_of_it = None if chosen.name == "mini" else wanted
        return LoadedBenchmark(chosen, mini_distributions(names=names_of_it, limit=limit))
    folder = fetched_folder("genies") if data is None or _is_fetched(data) else data
    if folder is None:
        raise BadInput(
            f"no data for benchmark {chosen.name}: give its folder of distributions with --data DIR, "
            "or bring it here with: repeng data fetch genies"
        )
    available = list_distributions(folder)
    if benign and benign not in available:
        raise UnknownName("distribution (--benign)", benign, available)
    missing = tuple(sorted(set(wanted) - set(available)))
    left = tuple(one for one in chosen.shifts if not {one.source, one.target, one.target_reference} & set(missing))
    if missing and not (partial and left):
        way_out = f"; --partial takes the {len(left)} shifts that have their data" if left else ""
        raise BadInput(
            f"{folder}: {len(missing)} distribution(s) of benchmark {chosen.name} are not there: "
            f"{', '.join(missing)}{way_out}"
        )
    if missing:
        wanted = tuple(name for name in wanted if name in {*replace(chosen, shifts=left).distributions, benign})
    return LoadedBenchmark(
        replace(chosen, shifts=left),
        load_distributions(folder, wanted, limit=limit, reading=reading),
        left_out=len(chosen.shifts) - len(left),
        missing=missing,
    )


def load_named(
    data: str | None,
    names: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    reading: Reading | None = None,
) -> dict[str, Distribution]:
    """Distributions by name, from data, the embedded benchmark (`mini` or None) or a fetched one (`genies`).

    Raises:
        BadInput: columns or labels are explained of a benchmark that needs no explanation.
        UnknownName: a name that is not among them.
    """
    folder = data
    if data in (None, "mini"):
        from repeng.benchmarks.mini import mini_benchmark, mini_distributions

        embedded = mini_benchmark().distributions
        if data == "mini" or names is None or set(names) <= set(embedded) or fetched_folder("genies") is None:
            for name in names or ():
                if name not in embedded:
                    raise UnknownName("distribution", name, embedded)
            _refuse_reading(reading)
            return mini_distributions(names=names, limit=limit)
        folder = str(fetched_folder("genies"))
    elif data is not None and _is_fetched(data):
        if fetched_folder(data) is None:
            raise BadInput(f"{data} is not here; bring it with: repeng data fetch {data}")
        folder = str(fetched_folder(data))
    return load_distributions(str(folder), names, limit=limit, reading=reading)


def export(data: str, directory: Path, *, form: str = "genies", seed: int = 0, reading: Reading | None = None) -> int:
    """Write distributions to a folder, DIRECTORY/distributions/NAME, and return their number.

    Of the embedded benchmark, `mini`, DIRECTORY/shifts.json is the shift file, so that `--data DIRECTORY --benchmark
    DIRECTORY/shifts.json` is the same benchmark.

    Args:
        data: `mini`, `genies`, or any data.
        directory: where to.
        form: one of `FORMS`: `genies`, train.json and test.json; `statements`, train.jsonl and test.jsonl with a
            labelled text for each response.
        seed: of the embedded benchmark's generator.
        reading: what the columns and labels of `data` mean.

    Raises:
        UnknownName: no such form.
        BadInput: there is no such data, or it does not fit the form.
        BadData: the data is wrong.
    """
    if form not in FORMS:
        raise UnknownName("form", form, FORMS)
    write = FORMS[form]
    if data != "mini":
        distributions = load_named(data, reading=reading)
        for distribution in distributions.values():
            write(distribution, directory / "distributions")
        return len(distributions)
    from repeng.benchmarks.mini import mini_benchmark, mini_distributions

    _refuse_reading(reading)
    distributions = mini_distributions(seed)
    for distribution in distributions.values():
        write(distribution, directory / "distributions")
    rows = [asdict(shift) for shift in mini_benchmark().shifts]
    write_atomically(directory / "shifts.json", json.dumps(rows, indent=1) + "\n")
    return len(distributions)


def _refuse_reading(reading: Reading | None) -> None:
    if reading is not None and not reading.says_nothing:
        raise BadInput(f"{reading} is of data of one's own; the embedded benchmark needs no such explanation")


def _is_fetched(data: str) -> bool:
    """Whether data is the name of a benchmark that can be fetched, and not a file here."""
    return data == "genies" and not Path(data).exists()
