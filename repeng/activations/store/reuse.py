"""Rows of equal texts in other versions of a split's data, as after `--limit 40`: taken over, not computed again."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from repeng.activations.store.files import INDEX, LOGPROB, ActivationKey, MissingActivations, blocks
from repeng.activations.store.records import FORMAT, Plan
from repeng.activations.store.stored_activations import LOGPROB_TENSORS, StoredActivations
from repeng.activations.store.writing import begin, text_hash
from repeng.activations.token_rules import token_rule
from repeng.atomic import clear_temporaries
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Stimulus
from repeng.errors import BadInput, StoreError
from repeng.models.sites import hook_name
from repeng.models.tokens import stimulus_texts
from repeng.places import Place

log = logging.getLogger(__name__)


class OtherVersions:
    """What other versions of a split's data hold of its texts, under one stimulus.

    Args:
        folder: of the split.
        stimulus: all of it must be the same.
        wanted: what is to be written, all of which a version must have to be of use; and the layers of each.
        hashes: `text_hash` of the text of each of the split's responses.

    Attributes:
        given: the rows of the split that can be taken over, in ascending order.
    """

    def __init__(
        self, folder: Place, stimulus: Stimulus, wanted: Mapping[ActivationKey, Sequence[int]], hashes: Sequence[str]
    ) -> None:
        self._versions = [held for other in siblings(folder) if (held := _held(other, stimulus, wanted)) is not None]
        place: dict[str, tuple[int, int]] = {}
        for number, held in enumerate(self._versions):
            for row, response in enumerate(next(iter(held.values())).index.responses):
                place.setdefault(response.get("text_hash", ""), (number, row))
        place.pop("", None)
        self._place = {row: place[digest] for row, digest in enumerate(hashes) if digest in place}
        self.given = tuple(self._place)

    def among(self, first: int, stop: int) -> tuple[int, ...]:
        """Those of the given rows from `first` up to `stop`."""
        return tuple(row for row in self.given if first <= row < stop)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows each version gives, by its data hash."""
        counts = Counter(number for number, _ in self._place.values())
        return {next(iter(self._versions[n].values())).index.data_hash: count for n, count in sorted(counts.items())}

    def tensors(self, key: ActivationKey, layers: Sequence[int], rows: Sequence[int]) -> dict[str, Tensor]:
        """The tensors of a shard, for some of the given rows of the split: [row, ...] by their names."""
        names: list[tuple[str, int | None]] = [(hook_name(key.site, layer), layer) for layer in layers]
        if key.site == LOGPROB:
            names = [(name, None) for name in LOGPROB_TENSORS]
        return {name: self._tensor(key, name, layer, rows) for name, layer in names}

    def dtype(self, key: ActivationKey) -> str:
        """What they are stored in."""
        return self._versions[0][key].index.dtype

    def without(self, key: ActivationKey, what: str) -> list[int]:
        """Those of the given rows that are `skipped` or `blank` where they come from."""
        listed = [set(getattr(held[key].index, what)) for held in self._versions]
        return [row for row, (number, theirs) in self._place.items() if theirs in listed[number]]

    def _tensor(self, key: ActivationKey, name: str, layer: int | None, rows: Sequence[int]) -> Tensor:
        pieces, order = [], []
        for number, held in enumerate(self._versions):
            here = [at for at, row in enumerate(rows) if self._place[row][0] == number]
            if here:
                pieces.append(held[key].rows(name, [self._place[rows[at]][1] for at in here], layer))
                order += here
        taken = torch.cat(pieces)
        return taken[torch.tensor(order).argsort()]


def take_over(folder: Place, split: Split, stimulus: Stimulus, missing: Sequence[MissingActivations]) -> int:
    """Write what other versions of a split's data hold whole, without the model. The caller holds the split's lock.

    Args:
        folder: of the split.
        split: the split.
        stimulus: under which they are missing.
        missing: all that is missing of the split under it.

    Returns:
        How many of the missing were written: all, or none where some text is not there, or where a prompt is a chat,
        which is no text without a tokenizer.
    """
    try:
        hashes = [text_hash(text) for text in stimulus_texts(split, range(len(split.examples)), stimulus, None)]
    except BadInput:
        return 0
    others = OtherVersions(folder, stimulus, {item.key: item.layers for item in missing}, hashes)
    if len(others.given) < split.n_responses:
        return 0

    def fresh(layers: tuple[int, ...], first_file: int) -> Plan:
        return Plan(
            format=FORMAT, layout="copied", batch_tokens=0, stimuli=(stimulus,), layers=layers, first_file=first_file
        )

    for item in missing:
        clear_temporaries(folder / item.key.folder)
    edges = []
    writers = begin(folder, missing, fresh, usable=())
    for number, examples in enumerate(blocks(split)):
        first = int(split.offsets[examples.start])
        stop = int(split.offsets[examples.stop]) if examples.stop < len(split.examples) else split.n_responses
        edges.append((first, stop - first))
        for writer in writers:
            writer.write_shard(number, others.tensors(writer.key, writer.plan.layers, range(first, stop)))
    for writer in writers:
        writer.finish(
            split,
            hashes=hashes,
            skipped=others.without(writer.key, "skipped"),
            blank=others.without(writer.key, "blank"),
            blocks=edges,
            dtype=others.dtype(writer.key),
            taken_over=others.counts,
        )
    return len(writers)


def siblings(folder: Place) -> list[Place]:
    """The folders of other versions of a split."""
    name = folder.name.rpartition(".")[0]
    found = folder.parent.iterdir() if folder.parent.is_dir() else ()
    return sorted(each for each in found if each != folder and each.name.rpartition(".")[0] == name)


def _held(
    folder: Place, stimulus: Stimulus, wanted: Mapping[ActivationKey, Sequence[int]]
) -> dict[ActivationKey, StoredActivations] | None:
    """What a version holds of what is wanted; None unless it is all there, whole, and of the same stimulus.

    The vectors of every token are computed anew.
    """
    if any(token_rule(key.token).is_ragged for key in wanted) or not all(
        (folder / key.folder / INDEX).is_file() for key in wanted
    ):
        return None
    try:
        held = {key: StoredActivations(folder / key.folder) for key in wanted}
        for key, stored in held.items():
            # An index of an earlier format has no checksum: nothing says whose text a row is.
            if (
                stored.index.format < FORMAT
                or vars(stored.index.stimulus) != vars(stimulus)
                or not {*wanted[key]} <= {*stored.layers}
            ):
                return None
        for key, stored in held.items():
            stored.check(wanted[key] if wanted[key] else None)
    except StoreError as error:
        log.warning("nothing is taken over from another version of the data: %s", error)
        return None
    return held
