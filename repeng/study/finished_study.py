"""A finished study's results folder, whose probes are fitted again from its store to see their directions."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from repeng.activations.store.store import Store
from repeng.errors import BadInput, StoreError, UnknownName
from repeng.methods.named_probe import NamedProbe
from repeng.methods.probes import CachedSource
from repeng.places import Place, place
from repeng.probes.directions import Directions
from repeng.results import read_provenance
from repeng.study.cached_train import CachedTrain, joined_train
from repeng.study.results_folder import PREDICTIONS, STUDY
from repeng.study.settings import Study
from repeng.study.stimulus_cosines import StimulusCosines, StimulusPair, compare_directions, directions_of

FEWEST_DRAWS = 20
"""Of each control, also where the study had fewer nulls."""

Fitted = dict[tuple[str, bytes], Directions | None]
"""By a method's name and the texts that count."""


@dataclass(frozen=True)
class FinishedStudy:
    """The results folder of a study whose store is still there.

    Raises:
        BadInput: the folder holds no study.
    """

    results: Place

    def __post_init__(self) -> None:
        if not (self.results / STUDY).is_file():
            raise BadInput(
                f"{self.results}: no {STUDY}, which names the store that directions are fitted from; give the results "
                "folder of a `repeng run`"
            )

    @cached_property
    def settings(self) -> Study:
        """As the folder's study.toml has them."""
        return Study.read(self.results / STUDY, {})

    def command(self, *methods: str) -> str:
        """What captures and evaluates what is missing of the study, with further methods; to be typed into a shell."""
        listed = f" --methods {_quoted(','.join(methods))}" if methods else ""
        moved = place(self.settings.out).resolve() != self.results.resolve()
        out = f" --out {_quoted(str(self.results))}" if moved else ""
        return f"repeng run {_quoted(str(self.results / STUDY))}{listed}{out}"

    def cosines(self, pairs: Sequence[StimulusPair], sources: Sequence[str]) -> Iterator[StimulusCosines]:
        """Source by source and pair by pair, wherever the study has evaluations of both methods.

        Each method is fitted as the study fitted it, with its seeds and choice of layers, on the texts that the model
        took under both stimuli.

        Raises:
            StoreError: the store lacks what a probe reads, or is damaged.
            NonFinite: an activation is infinite or not a number.
        """
        for source in sources:
            opened: dict[_FittedOn, CachedTrain] = {}
            fitted: Fitted = {}
            for pair in pairs:
                one, other = (self._fitted_on(named.name, source) for named in pair.both)
                if one is None or other is None:
                    continue
                if reason := pair.two_spaces or ("" if one == other else "the two were fitted on different data"):
                    yield StimulusCosines(pair, source, missing=reason)
                    continue
                if one not in opened:
                    opened[one] = self._open(source, one)
                yield self._compared(pair, opened[one], fitted)

    def _fitted_on(self, method: str, source: str) -> _FittedOn | None:
        """What a method was fitted on; None where no evaluation says it."""
        # Not by the model's name, which stood for a file or folder only where the study ran.
        for path in sorted((self.results / PREDICTIONS / method).glob("*/*.json")):
            if not path.parent.name.endswith(f"-{source}"):
                continue
            stated = read_provenance(path)
            if stated.get("source", source) == source and {"capture", "source_data_hash"} <= stated.keys():
                members = stated.get("source_members")
                listed = members or [(source, stated["source_data_hash"], None)]
                return _FittedOn(str(stated["capture"]), tuple((str(name), str(of), n) for name, of, n in listed))
        return None

    def _open(self, source: str, fitted_on: _FittedOn) -> CachedTrain:
        named = " and ".join(f"{name}/train ({data_hash})" for name, data_hash, _ in fitted_on.members)
        try:
            capture = Store(self.settings.store, trust=self.settings.trust_store).capture(fitted_on.capture)
            members = [
                (capture.find(name, "train", data_hash=data_hash), count)
                for name, data_hash, count in fitted_on.members
            ]
            return joined_train(capture, source, members)
        except UnknownName as error:
            raise self._lacking(f"{named} of {fitted_on.capture}") from error

    def _lacking(self, what: str) -> StoreError:
        store = place(self.settings.store).expanduser()
        elsewhere = "" if store.is_absolute() else "run this in the folder in which the study ran, or "
        return StoreError(
            f"{store.resolve()} does not hold {what}, from which directions are fitted; {elsewhere}capture what is "
            f"missing with: {self.command()}"
        )

    def _compared(self, pair: StimulusPair, train: CachedTrain, fitted: Fitted) -> StimulusCosines:
        one, other = (self._read(named, train) for named in pair.both)
        kept = one.kept & other.kept
        found = []
        for named, source in zip(pair.both, (one, other), strict=True):
            key = named.name, kept.tobytes()
            if key not in fitted:
                draws = max(FEWEST_DRAWS, self.settings.nulls)
                fitted[key] = directions_of(named, source, kept, fits=self.settings.fits, draws=draws)
            found.append(fitted[key])
        if found[0] is None or found[1] is None:
            return StimulusCosines(pair, train.source, missing=f"{pair.one.probe.name} reads along no direction")
        return compare_directions(pair, train.source, found[0], found[1])

    def _read(self, named: NamedProbe, train: CachedTrain) -> CachedSource:
        """What a probe reads of a train split.

        Raises:
            StoreError: the store lacks some of it.
        """
        spec, n_layers = named.spec(self.settings.layers, seed=self.settings.seed), train.capture.n_layers
        for (key, _), stimulus in product(train.members, spec.stimuli):
            for reading in spec.readings(n_layers):
                what = f"{stimulus} at {reading.site} ({spec.token}) of {key.distribution}/{key.split}"
                try:
                    held = train.capture.open(key, stimulus, reading.site, spec.token)
                except StoreError as error:
                    raise self._lacking(what) from error
                if reading.block not in held.layers:
                    raise self._lacking(f"layer {reading.block} of {what}")
        return CachedSource.of(spec, n_layers, train.activations, train.labels)


@dataclass(frozen=True)
class _FittedOn:
    """The capture and the train splits that a method was fitted on.

    Attributes:
        capture: its id.
        members: of each split its distribution, its data hash, and of how many examples; None for all.
    """

    capture: str
    members: tuple[tuple[str, str, int | None], ...]


def _quoted(text: str) -> str:
    """As one word of a shell; in double quotes where these keep it as it is, as most names of methods."""
    return f'"{text}"' if "'" in text and not set(text) & set('"$`\\!') else shlex.quote(text)
