"""What a name that nothing answers to is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from repeng.errors import UnknownName, path_like


@pytest.mark.parametrize(
    ("name", "known", "says"),
    [
        ("logistc", ("mms", "logistic", "lda"), "did you mean logistic? Choose from lda, logistic, mms"),
        ("Facts", ("facts", "myths"), "did you mean facts? Choose from facts, myths"),
        (
            "gnies",
            ("mini", "genies-all", "genies"),
            "did you mean genies or genies-all? Choose from genies, genies-all",
        ),
        ("unlike", ("mms", "lat"), "choose from lat, mms"),
        ("any", (), "choose from (there are none)"),
    ],
)
def test_the_names_most_like_it_stand_before_all_that_there_are(name: str, known: tuple[str, ...], says: str) -> None:
    assert str(UnknownName("method", name, known)).startswith(f"unknown method {name!r}; {says}")


def test_a_path_where_nothing_is_names_its_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "claims.jsonl").touch()
    assert path_like(tmp_path / "claims.jsnol") == f"; did you mean {tmp_path / 'claims.jsonl'}?"
    assert path_like(tmp_path / "other") == path_like(tmp_path / "nowhere" / "claims.jsonl") == ""
    monkeypatch.chdir(tmp_path)
    assert path_like("claim.jsonl") == "; did you mean claims.jsonl?"
