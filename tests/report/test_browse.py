"""The browser page: what it serves, what it writes, and what a reader can do with it."""

from __future__ import annotations

import json
import queue
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from browsers import chromium, open_page, serious_faults  # noqa: F401
from made_up_study import HOSTILE, make_distribution, write_study
from starlette.testclient import TestClient

from repeng.distributions.schema import Distribution, Example, Message, Split
from repeng.errors import BadInput
from repeng.metrics import Evaluation
from repeng.report.browse import create_app, export, serve
from repeng.report.library import Library, json_of
from repeng.report.predictions import Prediction, PredictionsByTarget, read_predictions
from repeng.report.prompt_frames import prompt_frames

ACCURACIES = {"mms": (0.91, 0.95, 0.49, 0.45), "zero-shot": (0.7, 0.72, 0.5, 0.48)}


def token_scores(example: Example, response: int) -> list[tuple[str, float]]:
    """A token a word; its length is its score, the response's words count against."""
    prompt = [(word + " ", float(len(word))) for word in str(example.prompt).split(" ")[:20]]
    return prompt + [(word + " ", -float(len(word))) for word in example.responses[response].split(" ")[:20]]


@pytest.fixture
def client() -> TestClient:
    distributions = {name: make_distribution(name, examples=3) for name in ("easy", "hard")}
    app = create_app(distributions, token_scores=token_scores)
    return TestClient(app, base_url=f"http://127.0.0.1/{app.state.secret}")


def test_a_split_holds_its_texts_and_pairs_by_response_number(client: TestClient) -> None:
    part = client.get("/data/0.json").json()
    assert part["examples"][1]["responses"][1] == "It is 3."
    assert part["pairs"][2:4] == [[1, 1, 0], [1, 1, 2]]
    assert client.get("/data/info.json").json()["splits"][2] == {"name": "hard", "split": "test", "scored": False}


def test_tokens_are_scored_on_demand(client: TestClient) -> None:
    answer = client.get("/data/tokens-0-0.json").json()[0]
    assert answer[0] == ["easy ", 4.0] and answer[-1] == ["0. ", -2.0]


@pytest.mark.parametrize("address", ["/data/tokens-0-99.json", "/data/tokens-9-0.json", "/data/9.json", "/secrets.txt"])
def test_what_is_not_there_is_not_found(client: TestClient, address: str) -> None:
    assert client.get(address).status_code == 404


def test_no_path_leads_out_of_the_static_files(client: TestClient) -> None:
    for address in ("/../html.py", "/%2e%2e/html.py", "/..%2fhtml.py", "/browse.html"):
        assert client.get(address).status_code in (403, 404)


READ_ELSEWHERE = """async (url) => {
  const script = () => new Promise((resolve, reject) => {
    const one = document.createElement("script");
    Object.assign(one, { src: url, onload: resolve, onerror: () => reject(new Error("refused")) });
    document.head.append(one);
  });
  const get = (options) => fetch(url, options).then((answer) => answer.text());
  const frame = async () => {
    const one = document.createElement("iframe");
    await new Promise((resolve) => { Object.assign(one, { src: url, onload: resolve }); document.body.append(one); });
    return one.contentDocument.body.textContent;
  };
  const tries = [script, () => get(), () => get({ mode: "no-cors" }), frame];
  const found = [];
  for (const one of tries) found.push(await one().then((read) => `read ${read}`, () => "refused"));
  return found;
}"""
ADDRESSES = ("/", "/browse.js", "/page.css", "/data/info.json", "/data/0.json", "/data/tokens-0-0.json", "/nothing")


def test_every_answer_forbids_foreign_scripts_and_other_hosts_are_refused(client: TestClient) -> None:
    for address in ADDRESSES:
        headers = client.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert headers["cross-origin-resource-policy"] == "same-origin"
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("address", ADDRESSES)
def test_nothing_is_answered_without_the_sessions_secret(client: TestClient, address: str) -> None:
    for secret in ("", "/", "/" + "A" * 22, "/%00", "/\u00e9"):
        answer = client.get(f"http://127.0.0.1{secret}{address}")
        assert answer.status_code == 403 and "open the whole address" in answer.text


def test_each_session_has_a_secret_of_its_own() -> None:
    assert len({create_app({}).state.secret for _ in range(3)}) == 3


@pytest.mark.parametrize("address", ADDRESSES)
def test_nothing_is_answered_to_a_request_that_another_site_causes(client: TestClient, address: str) -> None:
    for site in ("cross-site", "same-site", "surprise"):
        for kind in ({}, {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, {"sec-fetch-dest": "script"}):
            answer = client.get(address, headers={"sec-fetch-site": site} | kind)
            assert answer.status_code == 403 and "page of another site" in answer.text
    assert client.get(address, headers={"sec-fetch-site": "same-origin"}).status_code in (200, 404)


def test_a_link_elsewhere_may_open_the_page(client: TestClient) -> None:
    """In a notebook's terminal, say: the page that links cannot read what it opens."""
    clicked = {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    answer = client.get("/", headers=clicked)
    assert answer.status_code == 200 and answer.headers["cross-origin-opener-policy"] == "same-origin"


def test_the_announced_address_opens_the_page_and_the_same_without_its_secret_does_not() -> None:
    told: queue.Queue[str] = queue.Queue()
    distributions = {"easy": make_distribution("easy", examples=3)}
    threading.Thread(
        target=serve, args=(create_app(distributions),), kwargs={"port": 0, "announce": told.put}, daemon=True
    ).start()
    address = told.get(timeout=30)
    assert httpx.get(address + "data/0.json", timeout=30).json()["pairs"][0] == [0, 0, 1]
    assert httpx.get(httpx.URL(address).join("/data/0.json"), timeout=30).status_code == 403


def test_json_in_a_page_holds_no_markup_and_no_line_separator() -> None:
    text = json_of({"a": HOSTILE})
    assert "<" not in text and text.isascii()
    assert json.loads(text) == {"a": HOSTILE}


def test_predictions_are_matched_to_pairs_by_example(tmp_path: Path) -> None:
    split = make_distribution("hard", examples=4).test
    order = [3, 3, 0, 0, 2]  # example 2 lost one of its two pairs, and which is unknown
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    prediction = Prediction("m", "mms", "easy", "hard", Evaluation(p, example=np.array(order)), split.data_hash)
    part = Library({"hard": make_distribution("hard", examples=4)}, [prediction]).split_data(0)
    assert part["predictions"][0]["p"] == [0.3, 0.4, None, None, None, None, 0.1, 0.2]


def test_predictions_on_other_data_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    p = np.full(80, 0.9)
    prediction = Prediction("m", "mms", "easy", "hard", Evaluation(p), "0123456789ab")
    others = [prediction, replace(prediction, method="lat")]
    assert Library({"hard": make_distribution("hard")}, others).split_data(0)["predictions"] == []
    assert caplog.text.count("are not of these pairs (give the data and --limit of the study)") == 1
    assert "the predictions of mms, lat on hard" in caplog.text


def test_a_chat_is_shown_turn_by_turn() -> None:
    prompt = (Message("user", "Hello"), Message("assistant", "Hi"))
    split = Split("chat", "test", (Example(prompt, ("a", "b"), 0),))
    part = Library({"chat": Distribution("chat", {"test": split})}).split_data(0)
    assert part["examples"][0]["prompt"] == "user: Hello\n\nassistant: Hi"


def test_what_prompts_share_is_found_line_by_line_in_each_template() -> None:
    ends = "\n\n### Response:\n"
    short = [f"Do the task.\n\n### Instruction:\nName the {name}.{ends}" for name in ("bird", "fish", "tree", "stone")]
    given = [f"Use the input.\n\n### Instruction:\nSum {n}.\n\n### Input:\n{n} and {n}{ends}" for n in range(5)]
    frame = prompt_frames(short + given)
    for text, own in [(short[1], "Name the fish."), (given[3], "Sum 3.\n\n### Input:\n3 and 3")]:
        beginning = next(one for one in frame["beginnings"] if text.startswith(one))
        ending = next(one for one in frame["endings"] if text.endswith(one))
        assert text == beginning + own + ending


def test_a_short_part_of_a_line_and_two_prompts_make_no_frame() -> None:
    nothing = {"beginnings": [], "endings": []}
    assert prompt_frames([f"What is the capital of {name}?" for name in ("Peru", "Chad", "Oman", "Laos")]) == nothing
    assert prompt_frames(["### Instruction:\na", "### Instruction:\nb"] * 9) == nothing
    long = "Say whether this comment breaks the rules of the forum: "
    assert prompt_frames([long + name for name in ("one", "two", "four", "ten")])["beginnings"] == [long]


def test_texts_without_prompts_have_their_own_frame() -> None:
    examples = tuple(
        Example("", (f"Comment:\n{name}",), (0,) if name > "m" else ()) for name in ("ox", "elk", "yak", "asp")
    )
    part = Library({"t": Distribution("t", {"test": Split("t", "test", examples)})}).split_data(0)
    assert part["frame"] == {"beginnings": ["Comment:\n"], "endings": []}


def test_a_port_in_use_is_said_before_anything_runs() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadInput, match="choose another with --port"):
            serve(create_app({}), port=taken.getsockname()[1])


def test_what_is_exported_is_what_is_served(tmp_path: Path) -> None:
    distributions = write_study(tmp_path / "study", ACCURACIES)
    predictions = list(read_predictions(tmp_path / "study").values())
    page = export(tmp_path / "site", distributions, predictions, token_scores=token_scores)
    app = create_app(distributions, predictions, token_scores=token_scores)
    client = TestClient(app, base_url=f"http://127.0.0.1/{app.state.secret}")
    written = {path.name: path.read_text() for path in page.parent.iterdir()}
    index = written.pop("index.html")
    assert set(written) == {"browse.css", "browse.js", "page.css"}
    for name, text in written.items():
        assert client.get(f"/{name}").text == text
    held = dict(re.findall(r'<script type="application/json" id="(.*?)">(.*)</script>', index))
    assert len(held) == 1 + 2 * len(distributions) * (1 + 40)
    for name, text in held.items():
        assert client.get(f"/{name}").text == text


def test_stored_predictions_give_the_same_pages_as_those_read_at_once(tmp_path: Path) -> None:
    distributions = write_study(tmp_path, ACCURACIES)
    at_once = Library(distributions, list(read_predictions(tmp_path).values()))
    lazily = Library(distributions, PredictionsByTarget.stored(tmp_path))
    assert lazily.info(tokens=False) == at_once.info(tokens=False)
    for number in range(len(at_once.splits)):
        assert lazily.split_data(number) == at_once.split_data(number)


def test_a_damaged_file_is_said_where_its_split_is_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    distributions = write_study(tmp_path, ACCURACIES)
    damaged = sorted((tmp_path / "predictions" / "mms").glob("*/hard.json"))[0]
    damaged.write_text("{")
    library = Library(distributions, PredictionsByTarget.stored(tmp_path))
    shown = {library.splits[number]: library.split_data(number) for number in range(len(library.splits))}
    assert caplog.text.count("passed over") == caplog.text.count(str(damaged)) == 1
    expected = Library(distributions, list(read_predictions(tmp_path).values()))
    assert shown["hard", "test"] == expected.split_data(library.splits.index(("hard", "test")))


def test_a_file_that_names_another_method_than_those_next_to_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    distributions = write_study(tmp_path, ACCURACIES)
    file = sorted((tmp_path / "predictions" / "mms").glob("*/*.json"))[-1]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"method": "lda"}))
    library = Library(distributions, PredictionsByTarget.stored(tmp_path))
    library.split_data(library.splits.index((file.stem, "test")))
    assert f"passed over: {file}: it is of lda of" in caplog.text


def framed_pairs() -> Distribution:
    """Pairs whose prompts share a template, and whose long responses differ in blanks and at the end alone."""
    beginning = "Certainly, and with pleasure: here you have, after some thought, a long answer that ends in "
    indented = beginning.replace(" ", "\n    ", 1)
    examples = tuple(
        Example(
            f"Do the task.\n\n### Instruction:\nWhich is item {number}?\n\n### Response:\n",
            (f"{beginning}{number} as asked", f"{beginning}{number + 1}", f"{indented}none at all"),
            0,
        )
        for number in range(12)
    )
    return Distribution("framed", {"test": Split("framed", "test", examples)})


def bare_texts() -> Distribution:
    """Labelled texts that begin alike."""
    words = ("fine", "dull")
    examples = tuple(
        Example("", (f"Review:\nit was {words[number % 2]} ({number})",), () if number % 2 else (0,))
        for number in range(8)
    )
    return Distribution("texts", {"test": Split("texts", "test", examples)})


def chats() -> Distribution:
    """Chats that share their system prompt."""
    shared = Message("system", "You help.\nAnswer in one line.")
    examples = tuple(
        Example((shared, Message("user", f"Is {number} even?")), ("Yes.", "No."), number % 2) for number in range(4)
    )
    return Distribution("chats", {"test": Split("chats", "test", examples)})


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A hostile study, served and exported."""
    folder = tmp_path_factory.mktemp("browse")
    distributions = write_study(folder, ACCURACIES, hostile=True) | {"tame": make_distribution("tame", examples=120)}
    distributions |= {"framed": framed_pairs(), "texts": bare_texts(), "chats": chats()}
    predictions = list(read_predictions(folder).values())
    app = create_app(distributions, predictions, token_scores=token_scores)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    exported = export(folder / "site", distributions, predictions, token_scores=token_scores).as_uri()
    yield {"served": f"http://127.0.0.1:{port}/{app.state.secret}/", "exported": exported}
    server.should_exit = True
    thread.join(timeout=30)


def status(page: Any, text: str) -> None:
    page.wait_for_function("text => document.getElementById('status').textContent === text", arg=text)


@pytest.mark.browser
@pytest.mark.parametrize("how", ["served", "exported"])
def test_a_reader_searches_filters_pages_and_opens_a_pair(addresses: dict[str, str], chromium: Any, how: str) -> None:  # noqa: F811
    page = open_page(chromium, addresses[how])
    page.get_by_label("Distribution").select_option("tame")
    status(page, "240 pairs")
    assert page.locator("#place").inner_text() == "1 to 50"
    page.get_by_role("button", name="Next").click()
    assert page.locator("#place").inner_text() == "51 to 100"
    page.get_by_label("Search").fill("QUESTION 11:")
    status(page, "2 pairs")
    assert page.locator("#rows mark").first.inner_text() == "question 11:"
    page.locator("#rows a").first.click()
    page.locator("#pair h2").get_by_text("tame test, example 11").wait_for()
    assert page.locator("#pair .best").inner_text() == "I will not say (11)."
    page.get_by_label("Split").select_option("")
    status(page, "4 pairs")
    assert page.faults == []
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("how", ["served", "exported"])
def test_a_row_shows_what_sets_its_item_apart_and_who_is_right(
    addresses: dict[str, str],
    chromium: Any,  # noqa: F811
    how: str,
) -> None:
    page = open_page(chromium, addresses[how])
    page.get_by_label("Distribution").select_option("framed")
    status(page, "24 pairs")
    rows = page.locator("#rows a")
    # As it is read out: each of its texts, and of the long responses the piece from some words before they differ.
    assert rows.nth(1).locator(".asked, .said").all_text_contents() == [
        "Which is item 0?",
        "✓ right: …long answer that ends in 0 as asked",
        "✗ wrong: …long answer that ends in none at all",
    ]
    assert len({row.inner_text() for row in rows.all()}) == 24
    page.get_by_label("Distribution").select_option("texts")
    status(page, "8 texts")
    assert rows.nth(1).locator(".said").inner_text() == "label 0 it was dull (1)"
    page.get_by_label("Distribution").select_option("chats")
    status(page, "4 pairs")
    assert rows.nth(1).locator(".asked, .said").all_text_contents() == [
        "user: Is 1 even?",
        "✓ right: No.",
        "✗ wrong: Yes.",
    ]
    page.get_by_label("Distribution").select_option("hard")
    status(page, "80 pairs")
    said = rows.first.locator(".tally")
    assert re.fullmatch(r"[●○]{2} (2 right|1 right, 1 wrong|2 wrong)", said.inner_text())
    assert "mms (easy)" in said.get_attribute("title") and "zero-shot (easy)" in said.get_attribute("title")
    rows.first.focus()
    page.keyboard.press("Enter")
    page.locator("#pair h2").get_by_text("hard test, example 0").wait_for()
    page.get_by_label("Distribution").select_option("framed")
    status(page, "24 pairs")
    page.get_by_label("Search").fill("### Instruction")
    page.wait_for_function("() => document.querySelectorAll('#rows mark').length === 24")
    assert page.faults == []
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("how", ["served", "exported"])
def test_verdict_confidence_and_order_choose_among_predictions(
    addresses: dict[str, str],
    chromium: Any,  # noqa: F811
    how: str,
) -> None:
    page = open_page(chromium, addresses[how])
    page.get_by_label("Distribution").select_option("hard")
    page.get_by_label("Method").select_option(label="mms")
    status(page, "80 pairs")
    page.get_by_label("Verdict").select_option("wrong")
    status(page, "7 pairs")
    page.get_by_label("Order").select_option("sure")
    status(page, "7 pairs")
    values = [float(text.rpartition(" ")[2]) for text in page.locator("#rows .wrong").all_inner_texts()]
    assert values == sorted(values) and len(values) == 7
    page.get_by_label("Confidence").select_option("0.7")
    status(page, f"{sum(value <= 0.3 for value in values)} pairs")
    page.get_by_label("Distribution").select_option("")
    page.get_by_label("Confidence").select_option("0.5")
    status(page, f"{7 + 4 + 41 + 44} pairs")
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("how", ["served", "exported"])
def test_nothing_in_hostile_data_runs_or_breaks(addresses: dict[str, str], chromium: Any, how: str) -> None:  # noqa: F811
    page = open_page(chromium, addresses[how])
    page.get_by_label("Distribution").select_option("hard")
    page.get_by_label("Search").fill("<script>window.pwned")
    # All have it, so that the number says nothing of whether they have been searched.
    page.locator("#rows mark").first.wait_for()
    status(page, "80 pairs")
    page.locator("#rows a").first.click()
    page.locator("#pair h2").get_by_text("hard test, example 0").wait_for()
    shown = page.locator("#pair .best").inner_text()
    assert "<script>window.pwned = 1</script><img src=x" in shown
    assert "␀" in shown and "␛[31m" in shown and "⟨U+202E⟩" in shown and "&lt;b&gt;" in shown
    page.get_by_label("Search").fill("last word")
    status(page, "2 pairs")
    page.locator("#rows a").first.click()
    page.locator("#pair h2").get_by_text("hard test, example 3").wait_for()
    assert len(page.locator("#pair .text-block").first.inner_text()) > 100_000
    assert page.evaluate("window.pwned") is None
    assert page.locator("#main img, #main script, #main textarea").count() == 0
    assert page.faults == []
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("how", ["served", "exported"])
def test_an_address_opens_its_pair_and_tokens_get_a_heat_strip(
    addresses: dict[str, str],
    chromium: Any,  # noqa: F811
    how: str,
) -> None:
    page = open_page(chromium, addresses[how] + "#distribution=tame&split=test&pair=4")
    page.get_by_role("button", name="Score token by token").click()
    page.locator(".strip span").first.wait_for()
    assert page.locator(".strip").first.inner_text().startswith("tame test question 2:")
    heats = page.locator(".strip").first.locator("span").evaluate_all("all => all.map(s => [s.className, s.title])")
    assert heats[0] == ["above", "4.000"] and heats[-1][0] == "below"
    assert page.faults == []
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("dark", 390)])
def test_axe_finds_no_serious_fault(addresses: dict[str, str], chromium: Any, scheme: str, width: int) -> None:  # noqa: F811
    address = addresses["served"] + "#distribution=hard&split=test&pair=4"
    page = open_page(chromium, address, scheme=scheme, width=width)
    page.get_by_label("Method").select_option(label="mms")
    page.get_by_role("button", name="Score token by token").click()
    page.locator(".strip span").first.wait_for()
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert serious_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_another_origin_reads_nothing(addresses: dict[str, str], chromium: Any, host: str) -> None:  # noqa: F811
    """Even one that knows the secret: by a script, a fetch with and without CORS, or a frame."""

    class Foreign(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!DOCTYPE html><title>foreign</title>")

        def log_message(self, *_arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Foreign)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    page = open_page(chromium, f"http://{host}:{server.server_port}/")
    try:
        for name in ("data/info.json", "data/0.json", "browse.js", ""):
            assert page.evaluate(READ_ELSEWHERE, addresses["served"] + name) == ["refused"] * 4
    finally:
        page.close()
        server.shutdown()
        server.server_close()


@pytest.mark.browser
def test_on_a_phone_a_chosen_pair_comes_into_sight(addresses: dict[str, str], chromium: Any) -> None:  # noqa: F811
    page = open_page(chromium, addresses["served"], width=390)
    page.get_by_label("Distribution").select_option("tame")
    status(page, "240 pairs")
    page.locator("#rows a").first.click()
    page.locator("#pair h2").get_by_text("tame test, example 0").wait_for()
    page.wait_for_function("() => Math.abs(document.getElementById('pair').getBoundingClientRect().top) < 300")
    page.close()
