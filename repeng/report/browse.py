"""A local page over distributions and predictions, and the same as static files.

The page loads one split at a time as a script, from the server or from a folder, and searches and filters it itself;
so what is served and what is exported are one thing. Token scores, which need the model, are made as they are asked
for, or all at the export.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
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
        predictions: as `read_predictions` gives them.
        token_scores: of a response's tokens; without it the page offers none. Called one at a time.
    """
    library = Library(distributions, predictions)
    one_at_a_time = threading.Lock()

    def page(_request: Request) -> Response:
        return Response(_page(), media_type="text/html", headers=HEADERS)

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            return PlainTextResponse("no such file", status_code=404, headers=HEADERS)
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        return Response(static_text(name), media_type=kind, headers=HEADERS)

    def info(_request: Request) -> Response:
        text = script_of("info", library.info(tokens=token_scores is not None))
        return Response(text, media_type="text/javascript", headers=HEADERS)

    def split(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(library.splits):
            return PlainTextResponse("no such split", status_code=404, headers=HEADERS)
        return Response(
            script_of(str(number), library.split_data(number)), media_type="text/javascript", headers=HEADERS
        )

    async def tokens(request: Request) -> Response:
        number, example = request.path_params["number"], request.path_params["example"]
        examples = library.split(number).examples if number < len(library.splits) else ()
        if token_scores is None or example >= len(examples):
            return PlainTextResponse("no such example", status_code=404, headers=HEADERS)

        def score() -> str:
            with one_at_a_time:
                return _tokens_script(number, example, examples[example], token_scores)

        return Response(await run_in_threadpool(score), media_type="text/javascript", headers=HEADERS)

    routes = [
        Route("/", page),
        Route("/data/info.js", info),
        Route("/data/{number:int}.js", split),
        Route("/data/tokens-{number:int}-{example:int}.js", tokens),
        Route("/{name}", static),
    ]
    hosts = [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])]
    return Starlette(routes=routes, middleware=hosts)


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
        predictions: as `read_predictions` gives them.
        token_scores: scores every response of every example now, one file an example. That is a pass of the model
            for each: take few examples.

    Returns:
        The page, `directory/index.html`.
    """
    library = Library(distributions, predictions)
    for name in STATIC:
        write_atomically(directory / name, static_text(name))
    data = directory / "data"
    write_atomically(data / "info.js", script_of("info", library.info(tokens=token_scores is not None)))
    for number in range(len(library.splits)):
        write_atomically(data / f"{number}.js", script_of(str(number), library.split_data(number)))
        if token_scores is not None:
            for row, example in enumerate(library.split(number).examples):
                write_atomically(data / f"tokens-{number}-{row}.js", _tokens_script(number, row, example, token_scores))
    write_atomically(directory / "index.html", _page())
    return directory / "index.html"


def _tokens_script(number: int, row: int, example: Example, token_scores: TokenScores) -> str:
    """The token scores of each of an example's responses, in order."""
    scored = [
        [(str(text), float(score)) for text, score in token_scores(example, response)]
        for response in range(len(example.responses))
    ]
    return script_of(f"tokens-{number}-{row}", scored)


def _page() -> str:
    return environment().get_template("browse.html").render(policy=POLICY)
