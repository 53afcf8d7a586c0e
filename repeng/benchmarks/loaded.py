"""Which distributions and shifts the name of a benchmark means, and where their data is."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from repeng.atomic import write_atomically
from repeng.benchmarks.asked_shifts import asked_shifts, leave_one_out
from repeng.benchmarks.fetch import fetched_folder
from repeng.benchmarks.shift_lists import get_benchmark
from repeng.distributions.known import data_name
from repeng.distributions.load import list_distributions, load_distributions, write_genies
from repeng.distributions.mixture import first_of_each
from repeng.distributions.reading import Reading
from repeng.distributions.schema import Benchmark, Distribution, Shift
from repeng.distributions.statements import write_statements
from repeng.distributions.unions import union_members, union_name, with_unions
from repeng.errors import BadInput, UnknownName

FORMS: Mapping[str, Callable[[Distribution, Path], None]] = {"genies": write_genies, "statements": write_statements}
"""How distributions can be written."""


@dataclass(frozen=True)
class LoadedBenchmark:
    """A benchmark with the data of every distribution that it names.

    Attributes:
        distributions: by name; of a source that is a union of others, as `a+b`, that union too.
        every_pair: True where no shifts were named, and every distribution is set against every one, itself too.
        left_out: shifts that the benchmark has too, and of which a distribution is not there.
        missing: these distributions.
        unused: distributions that are there, and that only shifts which are left out name.
    """

    benchmark: Benchmark
    distributions: dict[str, Distribution]
    every_pair: bool = False
    left_out: int = 0
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

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
    shifts: Sequence[str] = (),
    leave_out: bool = False,
    train_limit: int | None = None,
) -> LoadedBenchmark:
    """Load the shifts of a study and their data.

    A shift's source may be a union of distributions (`repeng.distributions.unions`); its members are then loaded.

    Args:
        benchmark: a benchmark's name or a shift file; None means `mini`, or with `data` every distribution of the
            data against every one.
        data: where the distributions are, `mini` for the embedded ones; None means the benchmark's own data, embedded
            or fetched.
        limit: only this many examples of each split, from the first.
        benign: a distribution to be loaded besides, which no shift may ask about; empty for none.
        reading: what the columns and labels of `data` mean, where their names do not say it.
        partial: leave out shifts whose distributions are not in the data, where there are others.
        shifts: in place of the benchmark's, each as `SOURCE:TARGET`.
        leave_out: in their place, for each distribution every other one and the union of all the others.
        train_limit: at most so many train examples of each distribution, and of a union in all
            (`repeng.distributions.mixture.first_of_each`).

    Raises:
        BadInput: a distribution that a shift names is not in the data, or there is no data; a shift's target is the
            benign distribution.
        BadData: the data is wrong.
    """
    if shifts and leave_out:
        raise BadInput("shifts are named (--shift), and each distribution is to be left out in turn: give one of them")
    chosen = None if benchmark is None and data is not None else get_benchmark(benchmark or "mini")
    place = _place(chosen, data)
    if shifts:
        own = asked_shifts(shifts, _names(place), chosen.shifts if chosen else ())
        chosen = Benchmark(chosen.name if chosen else data_name(place), own)

    def read(names: Sequence[str] | None = None) -> dict[str, Distribution]:
        return load_named(place, names, limit=limit, reading=reading)

    if chosen is None or leave_out:
        found = _over_all(chosen.name if chosen else data_name(place), place, read(), benign, leave_out=leave_out)
    else:
        found = _of_shifts(chosen, place, read, benign, partial=partial)
    whole = with_unions(found.distributions, (shift.source for shift in found.benchmark.shifts), apart=benign)
    return replace(found, distributions={name: _with_train(one, train_limit) for name, one in whole.items()})


def _over_all(
    name: str, place: str, distributions: dict[str, Distribution], benign: str, *, leave_out: bool
) -> LoadedBenchmark:
    """Every distribution against every one, or each left out in turn."""
    if benign and benign not in distributions:
        raise UnknownName("distribution (--benign)", benign, distributions)
    names = tuple(name for name in distributions if name != benign)
    if not names:
        raise BadInput(f"{place} holds the benign distribution {benign} alone; give others to be asked about")
    sources = tuple(name for name in names if "train" in distributions[name].splits)
    if leave_out:
        targets = tuple(each for each in names if "test" in distributions[each].splits)
        return LoadedBenchmark(Benchmark(name, leave_one_out(sources, targets)), distributions)
    every = tuple(Shift(source, target) for source in sources for target in names)
    return LoadedBenchmark(Benchmark(name, every), distributions, every_pair=True)


def _of_shifts(
    chosen: Benchmark, place: str, read: Callable[..., dict[str, Distribution]], benign: str, *, partial: bool
) -> LoadedBenchmark:
    """The shifts of a benchmark, with the distributions that they need."""
    names = _names(place)
    if benign in {name for shift in chosen.shifts for name in (shift.target, shift.target_reference)} - {""}:
        raise BadInput(
            f"{benign} is a target of the benchmark {chosen.name}, and thresholds must not be set on what is asked "
            "about: name another distribution with --benign, or take it out of the shifts"
        )
    if benign and benign not in names:
        raise UnknownName("distribution (--benign)", benign, names)
    chosen = replace(chosen, shifts=tuple(replace(s, source=union_name(s.source, names)) for s in chosen.shifts))
    needs = {shift: _needs(shift, names) for shift in chosen.shifts}
    wanted = {name for needed in needs.values() for name in needed}
    missing = wanted - set(names)
    left = tuple(one for one in chosen.shifts if not needs[one] & missing)
    if missing and not (partial and left):
        way_out = f"; --partial takes the {len(left)} shifts that have their data" if left else ""
        raise BadInput(
            f"{place}: {len(missing)} distribution(s) of benchmark {chosen.name} are not there: "
            f"{', '.join(sorted(missing))}{way_out}"
        )
    used = {name for one in left for name in needs[one]}
    return LoadedBenchmark(
        replace(chosen, shifts=left),
        read(None if place == chosen.name == "mini" else sorted({*used, *([benign] if benign else [])})),
        left_out=len(chosen.shifts) - len(left),
        missing=tuple(sorted(missing)),
        unused=tuple(sorted(wanted - missing - used)),
    )


def _needs(shift: Shift, names: Collection[str]) -> set[str]:
    """The distributions that a shift needs, of a union's members."""
    return {*union_members(shift.source, names), shift.target, shift.target_reference}


def _place(chosen: Benchmark | None, data: str | None) -> str:
    """Where a benchmark's data is.

    Raises:
        BadInput: it was not fetched.
    """
    if data is not None:
        return data
    if chosen is None or chosen.name == "mini":
        return "mini"
    if fetched_folder("genies") is None:
        raise BadInput(
            f"no data for benchmark {chosen.name}: give its folder of distributions with --data DIR, "
            "or bring it here with: repeng data fetch genies"
        )
    return "genies"


def _names(place: str) -> tuple[str, ...]:
    """The names of the distributions that some data holds."""
    if place == "mini":
        from repeng.benchmarks.mini import MINI_DISTRIBUTIONS

        return MINI_DISTRIBUTIONS
    return list_distributions(_folder(place))


def _with_train(distribution: Distribution, limit: int | None) -> Distribution:
    """The distribution with at most so many train examples."""
    if limit is None or "train" not in distribution.splits:
        return distribution
    return replace(distribution, splits={**distribution.splits, "train": first_of_each(distribution.train, limit)})


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
    folder = None if data in (None, "mini") else _folder(str(data))
    if folder is None:
        from repeng.benchmarks.mini import mini_benchmark, mini_distributions

        embedded = mini_benchmark().distributions
        if data == "mini" or names is None or set(names) <= set(embedded) or fetched_folder("genies") is None:
            for name in names or ():
                if name not in embedded:
                    raise UnknownName("distribution", name, embedded)
            _refuse_reading(reading)
            return mini_distributions(names=names, limit=limit)
        folder = str(fetched_folder("genies"))
    return load_distributions(folder, names, limit=limit, reading=reading)


def load_source(
    data: str | None,
    source: str,
    targets: Sequence[str] = (),
    *,
    limit: int | None = None,
    reading: Reading | None = None,
) -> tuple[str, dict[str, Distribution]]:
    """The name of a source, which may be a union, and it and some targets by name; of a union its members too.

    Args:
        data: as of `load_named`.
        source: a distribution, or a union, as `a+b`.
        targets: distributions.
        limit: only the first so many examples of each split.
        reading: what columns and labels mean.

    Raises:
        BadInput, UnknownName: as of `load_named` and `union_members`.
    """
    known = _names("mini" if data is None else data)
    loaded = load_named(data, [*union_members(source, known), *targets], limit=limit, reading=reading)
    source = union_name(source, known)
    return source, with_unions(loaded, [source])


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


def _folder(data: str) -> str:
    """Where some data is: a fetched benchmark's folder by its name, unless a file here has it.

    Raises:
        BadInput: it was not fetched.
    """
    if data != "genies" or Path(data).exists():
        return data
    if (fetched := fetched_folder(data)) is None:
        raise BadInput(f"{data} is not here; bring it with: repeng data fetch {data}")
    return str(fetched)
