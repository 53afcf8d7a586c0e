"""`repeng steer`: a tiny model whose answers and texts are steered along a probe fitted on its own activations."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_samples import Repeng

from repeng.models.load import load_model
from repeng.probes.io import load
from repeng.steering.eraser import Eraser
from repeng.steering.vector import SteeringVector


@pytest.fixture(scope="module")
def folders(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe and an eraser of its direction."""
    import repeng as library

    root = tmp_path_factory.mktemp("steer")
    lm = load_model(str(place / "tiny"), device="cpu")
    cached = library.capture(lm, str(place / "data"), store=str(root / "store"), stimuli=("plain",), logprob=False)
    fitted = library.fit(cached, "easy", "mms", layers=(1,))
    library.probes.save(fitted, root / "probe")
    library.probes.save(library.fit(cached, "easy", "mlp", layers=(1,)), root / "mlp")
    Eraser.along(SteeringVector.of(fitted)).save(root / "eraser")
    return root


@pytest.fixture
def scored(place: Path) -> tuple[object, ...]:
    return ("--target", "hard", "--data", place / "data", "--limit", "4", "--device", "cpu")


def test_answers_are_scored_at_every_strength(
    repeng: Repeng, folders: Path, place: Path, scored: tuple[object, ...]
) -> None:
    found = repeng("steer", "--probe", folders / "probe", "--alpha=-2,1", "--project-out", *scored, "--json").json
    assert [row["edit"] for row in found] == [
        "as it is",
        "projected out",
        "projected out, alpha -2",
        "projected out, alpha 1",
    ]
    assert {row["target"] for row in found} == {"hard"} and found[0]["perplexity"] is None
    assert all(row["perplexity"]["value"] > 0 for row in found[1:])
    said = repeng("steer", "--probe", folders / "probe", "--alpha", "1", *scored)
    assert "alpha 1" in said.out and "resid_post of layer(s) 1" in said.err


def test_an_eraser_is_the_projection_that_it_was_made_of(
    repeng: Repeng, folders: Path, scored: tuple[object, ...]
) -> None:
    erased = repeng("steer", "--eraser", folders / "eraser", *scored, "--json").json
    projected = repeng("steer", "--probe", folders / "probe", "--project-out", *scored, "--json").json
    assert erased[1]["edit"] == "erased (mms)"
    for name in ("accuracy", "preference", "verdict", "verdict_gap", "perplexity"):
        assert erased[1][name]["value"] == pytest.approx(projected[1][name]["value"], abs=1e-4)


def test_texts_are_written_as_they_are_and_steered(repeng: Repeng, folders: Path) -> None:
    how = ("--generate", "Which planet is the largest?", "--max-new-tokens", "6", "--device", "cpu")
    found = repeng("steer", "--probe", folders / "probe", "--alpha", "40", *how, "--json").json
    assert [one["edit"] for one in found["texts"]] == ["as it is", "alpha 40"]
    assert found["texts"][0]["text"] != found["texts"][1]["text"]
    sampled = (*how, "--temperature", "1", "--seed", "3")
    first, again = (
        repeng("steer", "--probe", folders / "probe", "--alpha", "1", *sampled, "--json").json for _ in range(2)
    )
    assert first == again
    prompt_alone = repeng(
        "steer", "--probe", folders / "probe", "--alpha", "40", "--tokens", "response", *how, "--json"
    ).json
    assert prompt_alone["texts"][0] == found["texts"][0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--probe", "{folders}/probe", "--alpha", "1"), "give one of --generate PROMPT"),
        (("--alpha", "1", "--generate", "x"), "give --probe, a folder of repeng fit, or --eraser"),
        (("--probe", "{folders}/probe", "--generate", "x"), "nothing is to be done"),
        (("--probe", "{folders}/probe", "--generate", "x", "--alpha", "much"), "--alpha is 'much'; give a number"),
        (("--probe", "{folders}/probe", "--generate", "x", "--alpha", "1", "--layers", "2"), "not fitted at layer 2"),
        (("--probe", "{folders}/probe", "--generate", "x", "--alpha", "1", "--layers", "auto"), "chooses by"),
        (("--probe", "{folders}/probe", "--generate", "x", "--alpha", "1", "--tokens", "some"), "tokens to steer at"),
        (
            ("--probe", "{folders}/probe", "--generate", "x", "--alpha", "1", "--tokens", "generated"),
            "all, prompt, resp",
        ),
        (("--probe", "{folders}/probe", "--generate", "x", "--alpha", "nan"), "alpha is nan; it must be a finite"),
        (("--probe", "{folders}/mlp", "--generate", "x", "--alpha", "1"), "reads along no direction"),
        (("--eraser", "{folders}/eraser", "--generate", "x", "--alpha", "1"), "adds nothing"),
        (("--eraser", "{folders}/probe", "--generate", "x"), "no eraser.json here"),
        (("--probe", "{folders}/probe", "--generate", "x", "--alpha", "1", "--model", "mini"), "fitted on"),
    ],
)
def test_a_mistake_has_one_sentence(repeng: Repeng, folders: Path, options: tuple[str, ...], words: str) -> None:
    said = repeng("steer", *(option.format(folders=folders) for option in options), "--device", "cpu")
    assert said.code == 2 and words in said.err and "Traceback" not in said.err


def test_the_probes_own_model_is_checked_by_its_weights(folders: Path) -> None:
    assert str(load(folders / "probe").provenance["weights"]).startswith("sha256:")
