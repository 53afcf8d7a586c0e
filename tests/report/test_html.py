"""The report: one page that opens offline, says what the figures say, and takes no text for markup."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import chromium, open_page, serious_faults  # noqa: F401
from made_up_study import HOSTILE, make_layers, make_provenance, make_row, make_rows, write_study

from repeng.distributions.cautions import Caution
from repeng.errors import BadInput
from repeng.report.frames import shift_frame
from repeng.report.html import write_report
from repeng.report.mistakes import wrong_pairs
from repeng.report.pair_texts import shortened, visible
from repeng.report.predictions import mean_estimates, read_predictions, reliability_frame
from repeng.report.published import GENIES_TARGETS
from repeng.results import read_results, write_layers, write_results
from repeng.study.cautions import write_cautions
from repeng.study.provenance import write_provenance

ACCURACIES = {"mms": (0.91, 0.95, 0.49, 0.45), "zero-shot": (0.7, 0.72, 0.5, 0.48)}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with its report, over distributions that mean harm."""
    folder = tmp_path_factory.mktemp("study")
    distributions = write_study(folder, ACCURACIES, hostile=True)
    write_layers(make_layers(), folder / "layers.csv")
    write_provenance(make_provenance(), folder)
    write_report(folder, distributions=distributions)
    return folder


def test_a_report_is_one_page_without_link_to_anything_and_runs_the_script_that_its_policy_names(study: Path) -> None:
    text = (study / "report.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:" in text
    assert not re.search(r"""(src|href)=["'](?!#)""", text)
    assert "url(http" not in text and "@import" not in text


def test_its_pictures_lie_next_to_it(study: Path) -> None:
    names = {path.name for path in (study / "report-pictures").iterdir()}
    layers = {"layers-source.svg", "layers-1.svg", "layers-2.svg"}
    assert names == {"heat-map.svg", "elicitation.svg", "reliability.svg"} | layers


def test_every_picture_has_a_table_that_says_the_same(study: Path) -> None:
    text = (study / "report.html").read_text()
    assert text.count("<figure>") == text.count("<summary>The same as a table</summary>") == 6


def test_the_layers_of_each_shift_are_told_with_the_choice_and_the_oracle(study: Path) -> None:
    text = (study / "report.html").read_text()
    parts = re.split(r'<h2 id="', text)
    for name, shifts in (
        ("layers-source", ["easy", "short", "plain"]),
        ("layers-1", ["easy → hard", "short → long"]),
        ("layers-2", ["plain → sycophantic", "plain → cued"]),
    ):
        part = next(part for part in parts if part.startswith(f'{name}"'))
        assert re.findall(r'<th scope="rowgroup"[^>]*>([^<]*)</th>', part) == shifts
        row = '<th scope="row">layer {}</th><td>{}<small>{}</small></td><td>{}<small>{}</small></td>'
        for layer, cell in ((0, ("0.500", "0.450–0.550")), (1, ("0.600 (chosen)", "0.550–0.650"))):
            assert part.count(row.format(layer, *cell, *cell)) == len(shifts)
        assert part.count("0.800 (oracle)") == 2 * len(shifts)


def test_of_more_than_three_probes_the_leading_ones_are_drawn_and_each_other_one_on_demand(tmp_path: Path) -> None:
    write_study(tmp_path, ACCURACIES)
    probes = ("ccs", "mms", "lat", "cra", "lda")
    worst_first = sorted(make_layers(probes=probes), key=lambda row: -probes.index(row.probe))
    write_layers(worst_first, tmp_path / "layers.csv")
    text = write_report(tmp_path).read_text()
    part = next(part for part in re.split(r'<h2 id="', text) if part.startswith('layers-1"'))
    whole, *alone = part.split("<details>")
    assert "The 3 of 5 probes with the highest means" in whole and "Dotted" not in whole
    assert {name for name in probes if f">{name}<" in whole} == {"ccs", "mms", "lat"}
    summaries = re.findall(r"<summary>([^<]*)</summary>", part)
    titles = [f"Accuracy by layer, extreme shifts: {probe} alone" for probe in ("lda", "cra")]
    assert summaries == [*titles, "The same as a table"]
    assert all("Dotted: held-out prompts of the source." in one for one in alone[:2])
    assert (tmp_path / "report-pictures" / "layers-1-2.svg").is_file()


@pytest.mark.parametrize(("baseline", "said"), [(0.6, "Grey"), (0.95, "Outlined: on 4 of 4 shifts"), (None, "")])
def test_the_elicitation_caption_says_which_of_baseline_and_capability_is_the_higher(
    tmp_path: Path, baseline: float | None, said: str
) -> None:
    rows = [replace(row, baseline_accuracy=baseline) for row in make_rows({"mms": ACCURACIES["mms"]}, capability=0.9)]
    write_results(rows, tmp_path / "results.csv")
    text = write_report(tmp_path).read_text()
    caption = re.findall(r"<figcaption>(Solid line[^<]*)</figcaption>", text)[0]
    assert said in caption
    assert ("Outlined" in caption) == (baseline == 0.95) and ("Grey" in caption) == (baseline == 0.6)


def test_question_answer_data_and_detail_come_in_that_order(study: Path) -> None:
    text = (study / "report.html").read_text()
    places = [
        text.index(part)
        for part in (
            "<h1>Does what 1 probe learns",
            "Asked over 4 shifts of the benchmark mine",
            "<strong>On the 2 extreme shifts",
            '<h2 id="headline"',
            '<nav aria-label="Contents"',
            '<h2 id="data"',
            '<h2 id="again"',
            '<h2 id="heat-map"',
            '<h2 id="mistakes"',
            '<h2 id="paper"',
        )
    ]
    assert places == sorted(places)
    contents = re.findall(r'<li><a href="#([\w-]+)">', text.partition("</nav>")[0])
    assert contents == re.findall(r'<h2 id="([\w-]+)"', text)


def test_the_text_for_a_paper_lies_next_to_it_and_cites_what_it_lists(study: Path) -> None:
    folder = study / "report-paper"
    assert {path.name for path in folder.iterdir()} == {"methods.tex", "methods.md", "references.bib"}
    cited = re.findall(r"\\cite\{([^}]*)\}", (folder / "methods.tex").read_text())
    listed = re.findall(r"^@\w+\{(.*),$", (folder / "references.bib").read_text(), re.MULTILINE)
    assert listed == list(dict.fromkeys(key for keys in cited for key in keys.split(",")))
    assert "report-paper/ has them too" in (study / "report.html").read_text()


def test_a_study_without_a_table_of_layers_has_no_picture_of_them(tmp_path: Path) -> None:
    write_study(tmp_path, ACCURACIES)
    assert "Accuracy by layer" not in write_report(tmp_path).read_text()


def test_it_holds_the_means_and_the_texts_of_the_mistakes(study: Path) -> None:
    text = (study / "report.html").read_text()
    mean = np.mean([row.accuracy for row in read_results(study / "results.csv") if row.method == "mms"])
    assert f"<td>{mean:.3f}<small>" in text
    assert "extreme shifts</strong> mms has a mean accuracy of 0.93 (" in text
    assert "&lt;script&gt;window.pwned = 1&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text


def test_no_control_character_reaches_the_page(study: Path) -> None:
    text = (study / "report.html").read_text()
    assert not set(text) & {chr(code) for code in range(32) if chr(code) not in "\n\t"}
    assert visible("\x1b[0m\x00\n\t\x7f") == "␛[0m␀\n\t␡"


def test_the_surest_mistakes_come_first_and_no_shift_has_more_than_two(tmp_path: Path) -> None:
    distributions = write_study(tmp_path, ACCURACIES)
    rows = [row for row in read_results(tmp_path / "results.csv") if row.method == "mms"]
    predictions = read_predictions(tmp_path)
    found = wrong_pairs(shift_frame(rows), predictions, distributions)
    assert [pair.probability for pair in found] == sorted(pair.probability for pair in found)
    assert all(pair.probability < 0.5 for pair in found)
    assert max(sum((p.source, p.target) == (q.source, q.target) for q in found) for p in found) == 2
    worst = min(float(predictions["tiny", "mms", r.source, r.target].evaluation.probabilities.min()) for r in rows)
    assert found[0].probability == worst
    example = distributions[found[0].target].test.examples[found[0].example]
    prompt, best, preferred = (shown.text for shown in found[0].texts)
    assert prompt == example.prompt
    assert best == example.responses[example.best]
    assert preferred in example.responses and preferred != best


def test_texts_of_other_data_are_not_shown(tmp_path: Path) -> None:
    write_study(tmp_path, ACCURACIES)
    others = write_study(tmp_path / "other", ACCURACIES, hostile=True)
    frame = shift_frame(read_results(tmp_path / "results.csv"))
    assert wrong_pairs(frame, read_predictions(tmp_path), others) == []


def test_reliability_pools_the_pairs_of_a_label(tmp_path: Path) -> None:
    write_study(tmp_path, ACCURACIES)
    predictions = read_predictions(tmp_path)
    frame = reliability_frame(shift_frame(read_results(tmp_path / "results.csv")), predictions)
    extreme = frame[(frame["method"] == "mms") & (frame["label"] == "extreme")]
    assert extreme["n_pairs"].sum() == 2 * 80
    right = (extreme["accuracy"] * extreme["n_pairs"]).sum() / extreme["n_pairs"].sum()
    assert right == pytest.approx(0.93, abs=0.01)


def test_a_mean_has_an_interval_only_where_every_evaluation_is_there(tmp_path: Path) -> None:
    write_study(tmp_path, ACCURACIES)
    rows = shift_frame(row for row in read_results(tmp_path / "results.csv") if row.method == "mms")
    predictions = read_predictions(tmp_path)
    (full,) = mean_estimates([rows], predictions)
    assert full is not None and full.low is not None and full.low < full.value
    predictions.popitem()
    (bare,) = mean_estimates([rows], {key: value for key, value in predictions.items() if key[3] != "hard"})
    assert bare is not None and bare.low is None and bare.value == full.value


def test_results_alone_make_a_report_that_says_what_is_missing(tmp_path: Path) -> None:
    write_results([make_row(accuracy=0.8)], tmp_path / "results.csv")
    text = write_report(tmp_path, tmp_path / "elsewhere" / "page.html").read_text()
    assert "There are no predictions with these results" in text
    assert "Published means" not in text
    assert text.count("<dd>not recorded</dd>") == 4 and "its folder has no study.toml" in text
    assert (tmp_path / "elsewhere" / "page-pictures" / "heat-map.svg").is_file()


def test_cautions_stand_before_the_figures_and_only_where_there_are_any(tmp_path: Path) -> None:
    rows = [make_row(method="mms", accuracy=0.8, source_id_accuracy=0.7)]
    write_results(rows, tmp_path / "results.csv")
    assert "Cautions" not in write_report(tmp_path).read_text()
    write_results([*rows, make_row(method="length", source_id_accuracy=0.9)], tmp_path / "results.csv")
    write_cautions([Caution("few_prompts", "<b>hard</b>", "12")], tmp_path)
    text = write_report(tmp_path).read_text()
    assert '<a href="#cautions">Cautions</a>' in text
    short = "<li><details><summary>{}</summary><p>{}"
    assert short.format("Targets of fewer than 30 test prompts: &lt;b&gt;hard&lt;/b&gt; (12)", "An interval ") in text
    assert short.format("Sources that a text-only baseline solves: easy (length 0.90, mms 0.70)", "No fitted ") in text
    assert text.index('<h2 id="cautions"') < text.index('<h2 id="headline"')


def test_the_published_means_stand_next_to_a_study_of_the_same_shifts(tmp_path: Path) -> None:
    rows = [make_row(method="mms", source="s", target=target, accuracy=0.7) for target in sorted(GENIES_TARGETS)]
    write_results(rows, tmp_path / "results.csv")
    text = write_report(tmp_path).read_text()
    assert re.search(r"mms \(mass mean shift\)</th><td>0\.620</td><td>0\.700</td>", text)


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    write_results([], tmp_path / "results.csv")
    with pytest.raises(BadInput, match="has no row"):
        write_report(tmp_path)


def test_a_long_text_keeps_its_ends() -> None:
    text = shortened("a" * 5000 + "END", 300)
    assert text.startswith("aaa") and text.endswith("END") and "4,703 characters left out" in text
    assert shortened("short", 300) == "short"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_runs_nothing_and_axe_finds_no_serious_fault(study: Path, chromium: Any, scheme: str) -> None:  # noqa: F811
    page = open_page(chromium, (study / "report.html").as_uri(), scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("window.pwned") is None
    assert HOSTILE.split("\x00")[0].strip() in page.locator("article .text-block").first.inner_text()
    assert page.faults == []
    assert serious_faults(page) == []
    page.close()


@pytest.mark.browser
def test_a_block_is_copied_by_keyboard_and_says_so(study: Path, chromium: Any) -> None:  # noqa: F811
    page = open_page(chromium, (study / "report.html").as_uri())
    button = page.get_by_role("button", name="Copy BibTeX")
    button.focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Copied BibTeX").wait_for()
    assert page.get_by_role("status").inner_text() == "Copied: BibTeX"
    page.evaluate(
        "document.body.append(document.createElement('textarea')); document.querySelector('textarea').focus()"
    )
    page.keyboard.press("Control+V")
    assert page.locator("textarea").input_value() == (study / "report-paper" / "references.bib").read_text()
    assert page.faults == []
    page.close()


@pytest.mark.browser
def test_a_phone_need_not_scroll_the_page_sideways(study: Path, chromium: Any) -> None:  # noqa: F811
    page = open_page(chromium, (study / "report.html").as_uri(), width=390)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert min(link.bounding_box()["height"] for link in page.locator("#contents a").all()) >= 24
    page.locator(".to-contents").click()
    assert page.locator("#contents").bounding_box()["y"] < 900
    page.close()


@pytest.mark.browser
def test_what_a_phone_cuts_off_shows_a_shadow_at_that_edge_and_stays_legible(study: Path, chromium: Any) -> None:  # noqa: F811
    page = open_page(chromium, (study / "report.html").as_uri(), width=390)
    wide = page.evaluate(
        """[...document.querySelectorAll('figure .scroll')].map(one => ({
            cut: one.scrollWidth > one.clientWidth, shown: getComputedStyle(one).backgroundImage,
            attached: getComputedStyle(one).backgroundAttachment, focus: one.tabIndex, name: one.ariaLabel,
            scale: one.firstChild.getBoundingClientRect().width / one.firstChild.viewBox.baseVal.width
        }))"""
    )
    assert any(one["cut"] for one in wide)
    for one in wide:
        assert one["shown"].count("linear-gradient") == 4 and one["attached"] == "local, local, scroll, scroll"
        assert one["focus"] == 0 and one["name"] and one["scale"] >= 0.84
    page.close()


@pytest.mark.browser
def test_axe_does_see_a_fault_where_there_is_one(tmp_path: Path, chromium: Any) -> None:  # noqa: F811
    (tmp_path / "bad.html").write_text("<!DOCTYPE html><title>t</title><img src='data:,'><input>")
    page = open_page(chromium, (tmp_path / "bad.html").as_uri())
    assert any(fault.startswith("label") for fault in serious_faults(page))
    page.close()
