"""A local page over distributions and predictions, and the same as static files.

The page loads one split at a time as a script, from the server or from a folder, and searches and filters it itself;
so what is served and what is exported are one thing. Token scores, which need the model, are made as they are asked
for, or all at the export.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from repeng.atomic import write_atomically
from repeng.distributions.schema import Distribution, Example
from repeng.errors import BadInput
from repeng.report.library import Library, script_of
from repeng.report.page import environment, static_text
from repeng.report.predictions import Prediction

HOST = "127.0.0.1"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
HEADERS = {
    "content-security-policy": f"{POLICY}; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
STATIC = ("page.css", "browse.css", "browse.js")
MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

TokenScores = Callable[[Example, int], Sequence[tuple[str, float]]]
"""Scores one response of an example: a text and a score for each token of prompt and response, in order."""


def create_app(
    distributions: Mapping[str, Distribution],
    predictions: Sequence[Prediction] = (),
    *,
    token_scores: TokenScores | None = None,
) -> Starlette:
    """The page and its data as a web application. It answers to 127.0.0.1 and localhost alone.

    Args:
        distributions: by name.
        predictions: those that `read_predictions` finds.
        token_scores: of a response's tokens; without it the page offers none. Called one at a time.
    """
    files = _files(Library(distributions, predictions), token_scores)
    one_at_a_time = threading.Lock()

    def text(name: str) -> str:
        with one_at_a_time:
            return files[name]()

    async def answer(request: Request) -> Response:
        name = request.path_params["name"] or "index.html"
        if name not in files:
            return PlainTextResponse("no such file", status_code=404, headers=HEADERS)
        kind = MEDIA_TYPES[name.rpartition(".")[2]]
        return Response(await run_in_threadpool(text, name), media_type=kind, headers=HEADERS)

    hosts = [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])]
    return Starlette(routes=[Route("/{name:path}", answer)], middleware=hosts)


def serve(app: Starlette, *, port: int = 8417, announce: Callable[[str], None] = lambda _address: None) -> None:
    """Serve on 127.0.0.1 until interrupted.

    Args:
        app: of `create_app`.
        port: 0 takes a free one.
        announce: is told the page's address once it is taken.

    Raises:
        BadInput: the port is not free.
    """
    import uvicorn

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise BadInput(f"cannot listen on port {port}: {error}; choose another with --port, or 0") from error
        announce(f"http://{HOST}:{listener.getsockname()[1]}/")
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def export(
    directory: Path,
    distributions: Mapping[str, Distribution],
    predictions: Sequence[Prediction] = (),
    *,
    token_scores: TokenScores | None = None,
) -> Path:
    """Write the page and its data as static files, which any web server, or a browser alone, can open.

    Args:
        directory: where to; files of the same names are replaced.
        distributions: by name.
        predictions: those that `read_predictions` finds.
        token_scores: scores every response of every example now, one file an example. That is a pass of the model
            for each: take few examples.

    Returns:
        The page, `directory/index.html`.
    """
    for name, text in _files(Library(distributions, predictions), token_scores).items():
        write_atomically(directory / name, text())
    return directory / "index.html"


def _files(library: Library, token_scores: TokenScores | None) -> dict[str, Callable[[], str]]:
    """Every file of the page by its path, the page itself last, and what makes its text."""
    files: dict[str, Callable[[], str]] = {name: partial(static_text, name) for name in STATIC}
    files["data/info.js"] = lambda: script_of("info", library.info(tokens=token_scores is not None))
    for number in range(len(library.splits)):
        files[f"data/{number}.js"] = partial(_split_script, library, number)
        if token_scores is not None:
            for row in range(len(library.split(number).examples)):
                files[f"data/tokens-{number}-{row}.js"] = partial(_tokens_script, library, number, row, token_scores)
    files["index.html"] = lambda: environment().get_template("browse.html").render(policy=POLICY)
    return files


def _split_script(library: Library, number: int) -> str:
    return script_of(str(number), library.split_data(number))


def _tokens_script(library: Library, number: int, row: int, token_scores: TokenScores) -> str:
    """The token scores of each of an example's responses, in order."""
    example = library.split(number).examples[row]
    scored = [
        [(str(text), float(score)) for text, score in token_scores(example, response)]
        for response in range(len(example.responses))
    ]
    return script_of(f"tokens-{number}-{row}", scored)
