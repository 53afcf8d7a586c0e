"""Whether a store holds all that probes read, found out before the first fit: one message says all that is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from repeng.activations.store.files import INDEX, ActivationKey, MissingActivations, SplitKey, split_folder
from repeng.activations.store.records import read_index
from repeng.distributions.stimuli import Stimulus
from repeng.errors import StoreError
from repeng.models.sites import canonical_site
from repeng.probes.base import Reading
from repeng.study.cached_data import CachedData

MOST_NAMED = 3

Parts = Mapping[ActivationKey, tuple[int, ...]]
"""What is read of a split: of each stimulus, site and token the layers."""


def parts_read(stimuli: Sequence[str], token: str, readings: Sequence[Reading]) -> dict[ActivationKey, tuple[int, ...]]:
    """What a probe reads of each split, by the names of its stimuli."""
    found: dict[ActivationKey, tuple[int, ...]] = {}
    for stimulus in stimuli:
        for reading in readings:
            key = ActivationKey(stimulus, canonical_site(reading.site), token)
            found[key] = tuple(sorted({*found.get(key, ()), reading.block}))
    return found


def check_captured(
    data: CachedData, probes: Iterable[Parts], splits: Iterable[tuple[str, str]], stimuli: Iterable[Stimulus] = ()
) -> None:
    """Refuse activations that lack some of what probes read.

    Args:
        data: the activations.
        probes: what each of them reads.
        splits: distribution and split of all that is to be read.
        stimuli: of the user's own, which a store need not hold yet.

    Raises:
        UnknownName, BadInput: as `CachedData.find`; or a split is here of other data alone than is meant.
        StoreError: some of it is not here; the message ends with the command that captures all that is missing.
    """
    wanted: dict[ActivationKey, set[int]] = {}
    for parts in probes:
        for part, layers in parts.items():
            wanted.setdefault(part, set()).update(layers)
    others: list[MissingActivations] = []
    lacking: list[MissingActivations] = []
    for names in dict.fromkeys(splits):
        other = data.is_other(*names)
        meant = SplitKey(*names, data.versions[names]) if other else data.unfinished(*names)
        key = meant or data.find(*names)
        for part, needed in wanted.items():
            folder = split_folder(data.folder, key) / part.folder
            held = set(read_index(folder).layers) if (folder / INDEX).is_file() else set()
            if left := needed - held:
                (others if other else lacking).append(MissingActivations(key, part, tuple(sorted(left))))
    if others:
        raise data.of_other_data([*others, *lacking], stimuli)
    if lacking:
        named = [_named(lack, data.n_layers) for lack in lacking]
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        raise StoreError(
            f"{data.id} holds no {', '.join(named[:MOST_NAMED])}{more}; {data.way_out(lacking, stimuli=stimuli)}"
        )


def _named(lack: MissingActivations, n_layers: int) -> str:
    key: SplitKey = lack.split
    few = f", layers {', '.join(map(str, lack.layers))}" if len(lack.layers) < n_layers else ""
    return f"{lack.key} of {key.distribution}/{key.split} (data {key.data_hash}{few})"
