"""Beginning to write activations where others were begun."""

from __future__ import annotations

from pathlib import Path

from repeng.activations.store.files import ActivationKey, shard_file, split_key
from repeng.activations.store.records import Plan
from repeng.activations.store.request import MissingActivations
from repeng.activations.store.writing import begin
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus

KEY = ActivationKey("plain", "resid_post", "last")


def begun(folder: Path, split: Split, layers: tuple[int, ...]) -> list[str]:
    """The names of the shards that are left in the folder when these layers are begun."""
    missing = MissingActivations(split_key(split), KEY, layers)

    def fresh(layers: tuple[int, ...], first_file: int) -> Plan:
        stimuli = (get_stimulus("plain"),)
        return Plan(layout="trees", batch_tokens=512, stimuli=stimuli, layers=layers, first_file=first_file)

    begin(folder, [missing], fresh, ["trees"])
    return sorted(file.name for file in (folder / str(KEY)).glob("shard-*"))


def test_all_shards_of_other_layers_that_were_begun_are_removed_and_those_of_the_same_stay(
    tmp_path: Path, split: Split
) -> None:
    begun(tmp_path, split, (0, 1))
    shards = [shard_file(number) for number in range(3)]
    for name in shards:
        (tmp_path / str(KEY) / name).write_bytes(b"half")
    assert begun(tmp_path, split, (0, 1)) == shards
    assert begun(tmp_path, split, (2,)) == []
