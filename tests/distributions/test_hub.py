"""Hub datasets, on local folders in the hub's layout: the hub itself is not asked."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from repeng.distributions.check import check_data
from repeng.distributions.load import list_distributions, load_distributions
from repeng.errors import BadData, BadInput


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow files of the tests stay out of the user's cache."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()


def shard(path: Path, count: int, prefix: str = "p", **extra: object) -> None:
    import pandas

    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "prompt": f"{prefix}{n}",
            "chosen": [{"role": "user", "content": f"{prefix}{n}"}, {"role": "assistant", "content": "yes"}],
            "rejected": [{"role": "user", "content": f"{prefix}{n}"}, {"role": "assistant", "content": "no"}],
            "score": 0.5,
            **extra,
        }
        for n in range(count)
    ]
    pandas.DataFrame(rows).to_parquet(path)


def test_shards_in_the_hubs_layout_are_one_distribution_named_as_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my-prefs"
    shard(folder / "data" / "train-00000-of-00002.parquet", 3)
    shard(folder / "data" / "train-00001-of-00002.parquet", 2, "q")
    shard(folder / "data" / "test-00000-of-00001.parquet", 2, "t")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Preferences\n")
    assert list_distributions(folder) == ("my-prefs",)
    loaded = load_distributions(str(folder), limit=4)["my-prefs"]
    assert [e.prompt[0].content for e in loaded.train.examples if not isinstance(e.prompt, str)] == [
        "p0",
        "p1",
        "p2",
        "q0",
    ]
    assert len(loaded.test.examples) == 2
    assert loaded.test.examples[0].responses == ("yes", "no")
    assert loaded.test.examples[0].metadata == {"score": 0.5}
    assert check_data(folder) == []


def test_each_configuration_is_a_distribution(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    shard(folder / "en" / "rows.parquet", 30)
    shard(folder / "es" / "held_in.parquet", 4)
    shard(folder / "es" / "held_out.parquet", 3, "t")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files: en/rows.parquet\n- config_name: es\n  data_files:\n"
        "  - split: train\n    path: es/held_in.parquet\n  - split: validation\n    path: es/held_out.parquet\n---\n"
    )
    assert list_distributions(folder) == ("en", "es")
    loaded = load_distributions(folder, ["es", "en"])
    assert (len(loaded["es"].train.examples), len(loaded["es"].test.examples)) == (4, 3)
    assert len(loaded["en"].train.examples) + len(loaded["en"].test.examples) == 30
    assert 1 <= len(loaded["en"].test.examples) < 15


def test_a_bad_row_names_dataset_split_and_number(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    shard(folder / "data" / "train-00000-of-00001.parquet", 2)
    shard(folder / "data" / "test-00000-of-00001.parquet", 2, rejected=None)
    with pytest.raises(BadData, match=rf"{folder}, split test, example 0: no worse response"):
        load_distributions(folder)
    assert [(problem.file, problem.example) for problem in check_data(folder)] == [
        (f"{folder}, split test", 0),
        (f"{folder}, split test", 1),
    ]


def test_splits_of_unknown_names_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shard(folder / "a.parquet", 2)
    shard(folder / "b.parquet", 2)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: raw\n    path: a.parquet\n"
        "  - split: filtered\n    path: b.parquet\n---\n"
    )
    with pytest.raises(BadInput, match="has the splits raw, filtered; name them train and test"):
        load_distributions(folder)
    assert "name them train and test" in check_data(folder)[0].reason


def test_plain_files_in_a_data_folder_are_named_as_the_folder_around_it(tmp_path: Path) -> None:
    shard(tmp_path / "mine" / "data" / "train.parquet", 4)
    shard(tmp_path / "mine" / "data" / "test.parquet", 2)
    (tmp_path / "mine" / "README.md").write_text("# Mine\nconfigs: none\n")
    assert list_distributions(tmp_path / "mine") == ("mine",)


def test_a_damaged_shard_is_one_message(tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shard(folder / "data" / "train-00000-of-00001.parquet", 2)
    (folder / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(BadInput, match=rf"{folder} could not be loaded as a dataset in the hub's layout"):
        load_distributions(folder)


def test_without_a_network_there_is_one_clear_message(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    chatter = logging.getLogger("huggingface_hub.utils._http")
    level = chatter.level
    with pytest.raises(BadInput) as caught:
        load_distributions("someone/some-preferences")
    message = str(caught.value)
    assert message.startswith("'someone/some-preferences' is no file or folder here")
    assert "Check the name and the network" in message and "\n" not in message
    assert chatter.level == level
