"""A local page over distributions and predictions, and the same as static files.

The page loads one split at a time as a script, from the server or from a folder, and searches and filters it itself;
so what is served and what is exported are one thing. The server adds token scores, which need the model.
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
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from repeng.distributions.schema import Distribution, Example
from repeng.errors import BadInput
from repeng.report.html import environment, static_text
from repeng.report.library import Library, script_of
from repeng.report.predictions import Prediction
from repeng.results import write_atomically

HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
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

    def part(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(library.parts):
            return PlainTextResponse("no such part", status_code=404, headers=HEADERS)
        return Response(script_of(str(number), library.part(number)), media_type="text/javascript", headers=HEADERS)

    async def tokens(request: Request) -> Response:
        part_number, example, response = (request.path_params[name] for name in ("number", "example", "response"))
        examples = library.split(part_number).examples if part_number < len(library.parts) else ()
        if token_scores is None or example >= len(examples) or response >= len(examples[example].responses):
            return PlainTextResponse("no such response", status_code=404, headers=HEADERS)

        def score() -> list[tuple[str, float]]:
            with one_at_a_time:
                return [(str(text), float(value)) for text, value in token_scores(examples[example], response)]

        return JSONResponse(await run_in_threadpool(score), headers=HEADERS)

    routes = [
        Route("/", page),
        Route("/data/info.js", info),
        Route("/data/{number:int}.js", part),
        Route("/tokens/{number:int}/{example:int}/{response:int}", tokens),
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


def export(directory: Path, distributions: Mapping[str, Distribution], predictions: Sequence[Prediction] = ()) -> Path:
    """Write the page and its data as static files, which any web server, or a browser alone, can open.

    Token scores are left out: they need the model.

    Returns:
        The page, `directory/index.html`.
    """
    library = Library(distributions, predictions)
    for name in STATIC:
        write_atomically(directory / name, static_text(name))
    write_atomically(directory / "data" / "info.js", script_of("info", library.info(tokens=False)))
    for number in range(len(library.parts)):
        write_atomically(directory / "data" / f"{number}.js", script_of(str(number), library.part(number)))
    write_atomically(directory / "index.html", _page())
    return directory / "index.html"


def _page() -> str:
    return environment().get_template("browse.html").render(policy=POLICY)
