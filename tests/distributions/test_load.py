"""Where distributions may lie, how splits are made, and what is written."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from repeng.distributions.load import list_distributions, load_distributions, write_genies
from repeng.distributions.schema import Distribution, Example, Message, Split
from repeng.errors import BadData, BadInput, UnknownName


def scored(count: int, prefix: str = "p") -> list[dict[str, Any]]:
    return [{"prompt": f"{prefix}{number}", "responses": {"good": 1.0, "bad": 0.0}} for number in range(count)]


def preferences(count: int, prefix: str = "p") -> list[dict[str, str]]:
    return [{"prompt": f"{prefix}{n}", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(count)]


def save(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pandas

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".csv":
        pandas.DataFrame(rows).to_csv(path, index=False)
    else:
        pandas.DataFrame(rows).to_parquet(path)
    return path


def prompts(split: Split) -> list[Any]:
    return [example.prompt for example in split.examples]


def test_a_folder_of_distributions_gives_each_by_its_name_sorted(tmp_path: Path) -> None:
    for name in ("zebra", "ape"):
        save(tmp_path / name / "train.json", scored(3))
        save(tmp_path / name / "test.json", scored(2, "t"))
        save(tmp_path / name / "metadata.json", [{"id": name}])
    (tmp_path / "README.md").write_text("# Data")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes").mkdir()
    assert list_distributions(tmp_path) == ("ape", "zebra")
    loaded = load_distributions(str(tmp_path))
    assert list(loaded) == ["ape", "zebra"]
    assert prompts(loaded["ape"].train) == ["p0", "p1", "p2"]
    assert prompts(loaded["ape"].test) == ["t0", "t1"]
    assert (loaded["ape"].train.distribution, loaded["ape"].train.name) == ("ape", "train")


def test_names_choose_distributions_in_their_order_and_others_are_not_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / name / "test.json", scored(2))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "test.json").write_text("[")
    assert list(load_distributions(tmp_path, ["b", "a"])) == ["b", "a"]
    with pytest.raises(UnknownName, match="unknown distribution 'c'; choose from a, b, broken"):
        load_distributions(tmp_path, ["c"])
    with pytest.raises(BadData, match="broken"):
        load_distributions(tmp_path)


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".parquet"])
def test_every_format_gives_the_same_preferences(tmp_path: Path, ending: str) -> None:
    rows = preferences(12)
    save(tmp_path / f"prefs{ending}", rows)
    loaded = load_distributions(tmp_path / f"prefs{ending}")["prefs"]
    examples = sorted([*loaded.train.examples, *loaded.test.examples], key=lambda example: example.responses[0])
    expected = [Example(row["prompt"], (row["chosen"], row["rejected"]), 0) for row in rows]
    assert examples == sorted(expected, key=lambda example: example.responses[0])
    save(tmp_path / "split" / f"train{ending}", rows[:4])
    save(tmp_path / "split" / f"test{ending}", rows[4:])
    assert list(load_distributions(tmp_path / "split")["split"].train.examples) == expected[:4]


def test_a_folder_of_files_and_folders_of_splits_may_stand_together(tmp_path: Path) -> None:
    save(tmp_path / "one.jsonl", preferences(9))
    save(tmp_path / "two.csv", preferences(9))
    save(tmp_path / "three" / "train.jsonl", preferences(3))
    save(tmp_path / "three" / "test.parquet", preferences(2, "t"))
    loaded = load_distributions(tmp_path)
    assert list(loaded) == ["one", "three", "two"]
    assert len(loaded["three"].test.examples) == 2


def test_a_validation_split_is_the_test_split_where_there_is_no_other(tmp_path: Path) -> None:
    save(tmp_path / "a" / "train.jsonl", preferences(3))
    save(tmp_path / "a" / "validation.jsonl", preferences(2, "v"))
    assert prompts(load_distributions(tmp_path)["a"].test) == ["v0", "v1"]
    save(tmp_path / "a" / "test.jsonl", preferences(1, "t"))
    assert prompts(load_distributions(tmp_path)["a"].test) == ["t0"]


def test_a_target_may_have_a_test_split_alone(tmp_path: Path) -> None:
    save(tmp_path / "a" / "test.json", scored(2))
    loaded = load_distributions(tmp_path)["a"]
    assert list(loaded.splits) == ["test"]
    with pytest.raises(UnknownName, match="unknown split of a 'train'; choose from test"):
        _ = loaded.train


def test_a_train_split_alone_is_parted_as_a_single_file_is(tmp_path: Path) -> None:
    save(tmp_path / "a" / "train.jsonl", preferences(40))
    save(tmp_path / "b.jsonl", preferences(40))
    loaded = load_distributions(tmp_path)
    assert prompts(loaded["a"].train) == prompts(loaded["b"].train)
    assert prompts(loaded["a"].test) == prompts(loaded["b"].test)


def test_several_rejected_of_one_prompt_stay_examples_of_one_group_on_one_side(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n // 3}", "chosen": "c", "rejected": f"r{n}"} for n in range(90)]
    loaded = load_distributions(save(tmp_path / "a.jsonl", rows))["a"]
    assert len(loaded.train.examples) + len(loaded.test.examples) == 90
    assert not set(prompts(loaded.train)) & set(prompts(loaded.test))
    assert loaded.test.groups.tolist() == [n // 3 for n in range(len(loaded.test.examples))]


def test_limit_keeps_the_first_examples_of_each_split(tmp_path: Path) -> None:
    save(tmp_path / "a" / "train.json", scored(5))
    save(tmp_path / "a" / "test.json", scored(3, "t"))
    save(tmp_path / "b.jsonl", preferences(60))
    whole, limited = load_distributions(tmp_path), load_distributions(tmp_path, limit=4)
    for name in ("a", "b"):
        for split in ("train", "test"):
            assert limited[name].split(split).examples == whole[name].split(split).examples[:4]
    for limit in (0, -1):
        with pytest.raises(BadInput, match=f"limit is {limit}"):
            load_distributions(tmp_path, limit=limit)


def test_a_bad_example_is_refused_with_file_number_and_reason(tmp_path: Path) -> None:
    rows = scored(4)
    rows[2]["responses"] = {"a": 0.0, "b": 0.0}
    save(tmp_path / "a" / "train.json", rows)
    save(tmp_path / "a" / "test.json", scored(1))
    with pytest.raises(BadData) as caught:
        load_distributions(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'a' / 'train.json'}, example 2: no best response; of an example's responses one or more "
        "have the score 1, and one or more the score 0"
    )
    assert caught.value.exit_code == 2


def test_an_empty_list_and_one_prompt_for_all_are_refused_with_the_file(tmp_path: Path) -> None:
    empty = save(tmp_path / "empty.json", [])
    with pytest.raises(BadData, match="empty.json: an empty list"):
        load_distributions(empty)
    same = save(tmp_path / "same.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"} for _ in range(9)])
    with pytest.raises(BadData, match="same.jsonl: all examples have the same prompt.*give a train and a test file"):
        load_distributions(same)


def test_data_that_is_not_there_is_one_clear_message(tmp_path: Path) -> None:
    for data in (tmp_path / "none", str(tmp_path / "none.jsonl"), "somewhere/none.jsonl", "none", "../none"):
        with pytest.raises(BadInput, match="there is no file or folder"):
            load_distributions(data)
    with pytest.raises(BadInput, match=r"holds no distribution: neither NAME/train.json"):
        load_distributions(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(BadInput, match=r"data files end in \.csv, \.json, \.jsonl, \.parquet"):
        load_distributions(tmp_path / "a.txt")


def test_two_places_for_one_name_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "x" / "a.jsonl", preferences(9))
    save(tmp_path / "x" / "a.csv", preferences(9))
    with pytest.raises(BadInput, match="two distributions named 'a'"):
        load_distributions(tmp_path / "x")
    save(tmp_path / "y" / "train.jsonl", preferences(9))
    save(tmp_path / "y" / "train.csv", preferences(9))
    with pytest.raises(BadInput, match="has both train.csv and train.jsonl"):
        load_distributions(tmp_path / "y")


def test_chats_metadata_and_labels_come_back_from_what_is_written(tmp_path: Path) -> None:
    chat = (Message("system", "Sé breve."), Message("user", "¿Qué?"))
    examples = (
        Example(chat, ("", "sí"), 1, {"level": 3, "when": date(2024, 5, 1)}),
        Example("p", ("a", "b", "c"), 0),
    )
    one = Distribution(
        "ñandú", {"train": Split("ñandú", "train", examples), "test": Split("ñandú", "test", examples[:1])}
    )
    write_genies(one, tmp_path)
    write_genies(one, tmp_path)
    again = load_distributions(tmp_path)["ñandú"]
    assert again == one
    assert again.train.data_hash == one.train.data_hash
    assert again.train.examples[0].metadata == {"level": 3, "when": "2024-05-01"}
    assert sorted(path.name for path in (tmp_path / "ñandú").iterdir()) == ["test.json", "train.json"]
    for name in ("../up", "a/b", "", ".."):
        with pytest.raises(BadInput, match="cannot be written"):
            write_genies(Distribution(name, {}), tmp_path)


def test_examples_of_one_prompt_are_divided_by_their_responses_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    same = save(tmp_path / "same.jsonl", [{"prompt": "p", "chosen": "a", "rejected": f"{n}"} for n in range(40)])
    (loaded,) = load_distributions(same).values()
    assert len(loaded.train.examples) + len(loaded.test.examples) == 40 and len(loaded.test.examples) > 2
    assert "all 40 examples have the same prompt" in caplog.text
