"""Public sets by name, on small files of the same fields, in the hub's layout where a hub has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from repeng.distributions.check import check_data
from repeng.distributions.known import data_name, find_data
from repeng.distributions.known_sets import KNOWN_SETS, transcript
from repeng.distributions.load import list_distributions, load_distributions
from repeng.distributions.reading import Reading
from repeng.distributions.schema import Message
from repeng.errors import BadData, BadInput, UnknownName

ASK = {"role": "user", "content": "Sky?"}
BLUE, GREEN = ({"role": "assistant", "content": colour} for colour in ("Blue.", "Green."))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow files of the tests stay out of the user's cache."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()


def hub_folder(folder: Path, splits: dict[str, Sequence[dict[str, Any]]], config: str = "") -> Path:
    """A folder in the hub's layout, its README naming the splits."""
    import pandas

    files = []
    for name, rows in splits.items():
        path = folder / (config or "data") / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pandas.DataFrame(list(rows)).to_parquet(path)
        files.append(f"  - split: '{name}'\n    path: {path.relative_to(folder)}\n")
    head = f"---\nconfigs:\n- config_name: {config or 'default'}\n  data_files:\n{''.join(files)}---\n"
    (folder / "README.md").write_text(head)
    return folder


def test_geometry_of_truth_reads_its_csv_files_and_groups_a_city(tmp_path: Path) -> None:
    (tmp_path / "cities.csv").write_text(
        "statement,label,city,country\n"
        + "".join(f"The city of {n} is in {c}.,{int(c == 'A')},{n},{c}\n" for n in range(20) for c in "AB")
    )
    (tmp_path / "sp_en_trans.csv").write_text("statement,label\nuno is one,1\ndos is one,0\ntres is three,1\n")
    (tmp_path / "likely.csv").write_text("statement,likelihood\nx,0.3\n")
    loaded = load_distributions(f"known:geometry-of-truth={tmp_path}")
    assert list(loaded) == ["cities", "sp_en_trans"]
    cities = [example for split in loaded["cities"].splits.values() for example in split.examples]
    assert len(cities) == 40 and {example.group for example in cities} == set(map(str, range(20)))
    assert cities[0].responses == ("The city of 0 is in A.",) and cities[0].right == (0,)
    assert len(loaded["cities"].test.pairs) == len(loaded["cities"].test.examples) / 2
    assert loaded["cities"].train.origin.place == str(tmp_path / "cities.csv")  # type: ignore[union-attr]
    with pytest.raises(BadInput, match="no hub has it; copy it from https://github.com/saprmarks/geometry-of-truth"):
        list_distributions("known:geometry-of-truth")


def test_liars_bench_reads_messages_and_deceptive_and_divides_its_test_split(tmp_path: Path) -> None:
    rows = [
        {"model": "m", "messages": [{**ASK, "content": f"q{n}"}, BLUE], "deceptive": n % 2 == 0, "canary": "c"}
        for n in range(30)
    ]
    folder = hub_folder(tmp_path / "liars-bench", {"test": rows}, "instructed-deception")
    (loaded,) = load_distributions(f"known:liars-bench={folder}").values()
    examples = (*loaded.train.examples, *loaded.test.examples)
    assert len(examples) == 30 and loaded.test.examples
    first = next(example for example in examples if example.prompt == (Message("user", "q0"),))
    assert (first.responses, first.right, first.metadata["model"]) == (("Blue.",), (0,), "m")
    assert loaded.train.as_texts


def test_reward_bench_2_has_several_right_and_wrong_responses(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "prompt": f"Colour {n}?", "chosen": ["red", "blue"][: 1 + n % 2], "rejected": ["dog", "cat"]}
        for n in range(20)
    ]
    folder = hub_folder(tmp_path / "reward-bench-2", {"test": rows})
    loaded = load_distributions(f"known:reward-bench-2={folder}")["reward-bench-2"]
    examples = {one.prompt: one for one in (*loaded.train.examples, *loaded.test.examples)}
    assert (examples["Colour 0?"].responses, examples["Colour 0?"].best) == (("red", "dog", "cat"), 0)
    assert (examples["Colour 1?"].responses, examples["Colour 1?"].best) == (("red", "blue", "dog", "cat"), (0, 1))
    assert not loaded.train.as_texts


def test_doluschat_makes_a_chat_of_what_the_assistant_knows_and_is_asked(tmp_path: Path) -> None:
    rows = [
        {
            "system_message": "You sell boats.",
            "context": {"sensitive_info": "It leaks.", "non_sensitive_info": ["It is red.", "It is new."]},
            "user_query": {"content": f"Is it dry, {n}?", "speaker_type": "public_user"},
            "responses": {"truthful": "It leaks.", "deceptive": "Dry."},
        }
        for n in range(12)
    ]
    (tmp_path / "dolus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = load_distributions(f"known:doluschat={tmp_path / 'dolus.jsonl'}")["dolus"]
    example = min((*loaded.train.examples, *loaded.test.examples), key=lambda one: str(one.prompt))
    system = "You sell boats.\nContext:\nIt is red.\nIt is new.\nIt leaks."
    assert example.prompt == (Message("system", system), Message("user", "User ID: public_user\nIs it dry, 0?"))
    assert (example.responses, example.best) == (("It leaks.", "Dry."), 0)
    (tmp_path / "other.jsonl").write_text('{"prompt": "p"}\n')
    (problem,) = check_data(f"known:doluschat={tmp_path / 'other.jsonl'}")
    assert problem.example == 0 and "no context or user_query as DolusChat has them" in problem.reason


@pytest.mark.parametrize(("name", "best"), [("truthfulqa", (0, 1)), ("truthfulqa-mc1", 0)])
def test_truthfulqa_asks_about_every_choice_with_its_label(tmp_path: Path, name: str, best: object) -> None:
    rows = [
        {
            "question": f"What is {n}?",
            "mc1_targets": {"choices": ["a", "c"], "labels": [1, 0]},
            "mc2_targets": {"choices": ["a", "b", "c", "c"], "labels": [1, 1, 0, 0]},
        }
        for n in range(20)
    ]
    folder = hub_folder(tmp_path / "truthful_qa", {"validation": rows}, "multiple_choice")
    loaded = load_distributions(f"known:{name}={folder}")[name]
    example = next(one for one in loaded.train.examples if one.prompt == "Q: What is 1?\nA: ")
    assert (example.responses, example.best) == (("a", "b", "c") if best == (0, 1) else ("a", "c"), best)
    assert loaded.test.examples


def test_ultrafeedback_leaves_out_what_prefers_nothing(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"p{n}",
            "chosen": [{**ASK, "content": f"p{n}"}, BLUE],
            "rejected": [{**ASK, "content": f"p{n}"}, worse],
        }
        for n, worse in enumerate([GREEN, BLUE, GREEN])
    ]
    folder = hub_folder(
        tmp_path / "ultrafeedback_binarized", {"train_prefs": rows, "test_prefs": rows[:1], "train_gen": rows}
    )
    loaded = load_distributions(f"known:ultrafeedback={folder}")["ultrafeedback_binarized"]
    assert [one.prompt[0].content for one in loaded.train.examples if one.prompt] == ["p0", "p2"]  # type: ignore[union-attr]
    assert len(loaded.test.examples) == 1


def test_hh_rlhf_transcripts_become_chats(tmp_path: Path) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Sky?\n\nAssistant:"
    rows = [
        {"chosen": f"{start} Blue.\n\nReally.", "rejected": f"{start} Green."},
        {"chosen": f"{start} Blue.", "rejected": f"{start} Blue."},
        {"chosen": f"{start} Blue.", "rejected": "\n\nHuman: Sea?\n\nAssistant: Green."},
    ]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (loaded,) = load_distributions(f"known:hh-rlhf={tmp_path}").values()
    (example,) = loaded.train.examples
    assert example.responses == ("Blue.\n\nReally.", "Green.") and example.best == 0
    assert [message.role for message in example.prompt] == ["user", "assistant", "user"]  # type: ignore[union-attr]
    for wrong in ("Hi", "", None, "x\n\nHuman: Hi\n\nAssistant: a"):
        with pytest.raises(BadData, match="no transcript"):
            transcript(wrong)


def test_harmful_requests_take_as_many_of_each_in_turn(tmp_path: Path) -> None:
    for name, counts in (("harmful_behaviors", (3, 2)), ("harmless_alpaca", (9, 9))):
        splits = {
            split: [{"text": f"{name} {split} {n}"} for n in range(count)]
            for split, count in zip(("train", "test"), counts, strict=True)
        }
        hub_folder(tmp_path / name, splits)
    loaded = load_distributions(f"known:harmful-requests={tmp_path}")["harmful-requests"]
    assert loaded.train.labels.tolist() == [1, 0] * 3 and loaded.test.labels.tolist() == [1, 0] * 2
    assert loaded.train.examples[1].responses == ("harmless_alpaca train 0",)
    assert loaded.train.examples[1].prompt == ""


def test_beavertails_reads_its_smaller_splits(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "response": "r", "is_safe": n % 2 == 0, "category": {"x": True}} for n in range(4)]
    names = ("30k_train", "30k_test", "330k_train", "330k_test")
    folder = hub_folder(tmp_path / "BeaverTails", {name: rows[: 2 + 2 * ("train" in name)] for name in names})
    loaded = load_distributions(f"known:beavertails={folder}")["BeaverTails"]
    assert (loaded.train.labels.tolist(), len(loaded.test.examples)) == ([1, 0, 1, 0], 2)
    assert loaded.train.examples[0].prompt == "p0"


def test_the_users_words_go_before_what_is_known_and_unknown_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"messages": [], "deceptive": 1, "sure": 1}\n')
    _, reading = find_data(f"known:liars-bench={tmp_path / 'd.jsonl'}", Reading({"label": "sure"}, turn="all"))
    assert reading == Reading({"messages": "messages", "label": "sure"}, turn="all")
    with pytest.raises(UnknownName, match="unknown public set 'liar'; choose from beavertails"):
        find_data("known:liar")
    assert [data_name(one) for one in ("known:a=/x/y", "known:a", "/x/y.jsonl", "o/n")] == ["a", "a", "y", "n"]


def test_every_known_set_says_what_it_is() -> None:
    for name, known in KNOWN_SETS.items():
        assert name == known.name and known.home.startswith("https://")
        assert all((known.asks, known.fields, known.licence, known.size))
        assert all(hub.count("/") == 1 for hub in known.hub)
