"""Beginning to write activations where others were begun."""

from __future__ import annotations

import json
from pathlib import Path

from made_up import made_up

from repeng.activations.capture import Request, capture
from repeng.activations.store.files import (
    PLAN,
    WRITTEN,
    ActivationKey,
    MissingActivations,
    checksum,
    shard_file,
    split_key,
)
from repeng.activations.store.records import FORMAT, Index, Plan
from repeng.activations.store.store import Store
from repeng.activations.store.writing import begin
from repeng.atomic import append_line, write_atomically
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.models.load import LanguageModel

KEY = ActivationKey("plain", "resid_post", "last")


def begun(folder: Path, split: Split, layers: tuple[int, ...]) -> list[str]:
    """The names of the shards that are left in the folder when these layers are begun."""
    missing = MissingActivations(split_key(split), KEY, layers)

    def fresh(layers: tuple[int, ...], first_file: int) -> Plan:
        stimuli = (get_stimulus("plain"),)
        return Plan(
            format=FORMAT, layout="trees", batch_tokens=512, stimuli=stimuli, layers=layers, first_file=first_file
        )

    begin(folder, [missing], fresh, ["trees"])
    return sorted(file.name for file in (folder / str(KEY)).glob("shard-*"))


def test_all_shards_of_other_layers_that_were_begun_are_removed_and_those_of_the_same_stay(
    tmp_path: Path, split: Split
) -> None:
    begun(tmp_path, split, (0, 1))
    shards = [shard_file(number) for number in range(3)]
    for name in shards:
        write_atomically(tmp_path / str(KEY) / name, b"whole")
        append_line(tmp_path / str(KEY) / WRITTEN, json.dumps([name, 5, checksum(b"whole")]))
    assert begun(tmp_path, split, (0, 1)) == shards
    assert begun(tmp_path, split, (2,)) == []


def test_a_shard_is_believed_only_if_the_journal_names_it_with_the_content_that_it_has(
    tmp_path: Path, split: Split
) -> None:
    begun(tmp_path, split, (0, 1))
    folder, names = tmp_path / str(KEY), [shard_file(number) for number in range(4)]
    for name in names:
        write_atomically(folder / name, name.encode())
    for name in names[:3]:
        append_line(folder / WRITTEN, json.dumps([name, len(name), checksum(name.encode())]))
    # Of the same size, and none that the journal's last whole line names.
    (folder / names[1]).write_bytes(names[1].encode()[::-1])
    with (folder / WRITTEN).open("ab") as file:
        file.write(json.dumps([names[3], len(names[3]), checksum(names[3].encode())]).encode())
    assert begun(tmp_path, split, (0, 1)) == [names[0], names[2]]


def test_a_plan_that_a_kill_left_beside_whole_activations_goes(llama: LanguageModel, tmp_path: Path) -> None:
    store, split, request = Store(tmp_path), made_up(6), Request((get_stimulus("plain"),), logprob=False)
    capture(llama, [split], request, store)
    (index,) = tmp_path.rglob("index.json")
    plan = Plan(
        format=FORMAT,
        layout="trees",
        batch_tokens=512,
        stimuli=request.stimuli,
        layers=Index.read(index).layers,
        first_file=0,
    )
    plan.write(index.parent / PLAN)
    append_line(index.parent / WRITTEN, json.dumps(["shard-00000.safetensors", 1, ""]))
    capture(llama, [split], request, store)
    assert sorted(file.name for file in index.parent.iterdir()) == ["index.json", "shard-00000.safetensors"]
