"""A local page over distributions and predictions, and the same as static files.

The page loads one split at a time as JSON, and searches and filters it itself. Served, it fetches the split from the
server; exported, it holds all of them within itself, since a browser fetches nothing from a folder. Token scores, which
need the model, are made as they are asked for, or all at the export.

No page of another origin can read what is served: the address holds a secret of the session, requests that a browser
makes for another site are refused, and JSON, unlike a script, gives nothing to a page that includes it.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

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
from repeng.places import Place
from repeng.report.library import Library, json_of
from repeng.report.page import environment, static_text
from repeng.report.predictions import Prediction, PredictionsByTarget

HOST = "127.0.0.1"
POLICY = "; ".join(
    ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src data:")
    + ("base-uri 'none'", "form-action 'none'")
)
HEADERS = {
    "content-security-policy": f"{POLICY}; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
STATIC = ("page.css", "browse.css", "browse.js")
MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "json": "application/json"}

TokenScores = Callable[[Example, int], Sequence[tuple[str, float]]]
"""Scores one response of an example: a text and a score for each token of prompt and response, in order."""


def create_app(
    distributions: Mapping[str, Distribution],
    predictions: PredictionsByTarget | Sequence[Prediction] = (),
    *,
    token_scores: TokenScores | None = None,
) -> Starlette:
    """The page and its data as a web application. It answers to 127.0.0.1 and localhost alone.

    The page is at `/SECRET/`, where SECRET is `app.state.secret`, drawn anew for each application.

    Args:
        distributions: by name.
        predictions: those that `read_predictions` finds, or `PredictionsByTarget.stored`, read as they are asked for.
        token_scores: of a response's tokens; without it the page offers none. Called one at a time.
    """
    library = Library(distributions, predictions)
    files = {name: partial(static_text, name) for name in STATIC} | _data(library, token_scores)
    files["index.html"] = partial(_page, {})
    secret = secrets.token_urlsafe(16)
    one_at_a_time = threading.Lock()

    def text(name: str) -> str:
        with one_at_a_time:
            return files[name]()

    async def answer(request: Request) -> Response:
        given, _, name = request.path_params["path"].partition("/")
        if not _of_this_site(request):
            return _refusal(403, "asked for by a page of another site; type or paste the address instead")
        if not hmac.compare_digest(given.encode(), secret.encode()):
            return _refusal(403, "open the whole address that `repeng browse` printed; it changes with every start")
        name = name or "index.html"
        if name not in files:
            return _refusal(404, "no such file")
        kind = MEDIA_TYPES[name.rpartition(".")[2]]
        return Response(await run_in_threadpool(text, name), media_type=kind, headers=HEADERS)

    hosts = [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])]
    app = Starlette(routes=[Route("/{path:path}", answer)], middleware=hosts)
    app.state.secret = secret
    return app


def _of_this_site(request: Request) -> bool:
    """Whether our page or the reader asks, or a program that is no browser; a link elsewhere may open our page."""
    asked_by = request.headers.get("sec-fetch-site", "none")
    opens = (request.headers.get("sec-fetch-mode"), request.headers.get("sec-fetch-dest")) == ("navigate", "document")
    return asked_by in ("none", "same-origin") or opens


def _refusal(status: int, reason: str) -> Response:
    return PlainTextResponse(reason, status_code=status, headers=HEADERS)


def serve(app: Starlette, *, port: int = 8417, announce: Callable[[str], None] = lambda _address: None) -> None:
    """Serve on 127.0.0.1 until interrupted.

    Args:
        app: of `create_app`.
        port: 0 takes a free one.
        announce: is told the page's address, with the session's secret, once the port is taken.

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
        announce(f"http://{HOST}:{listener.getsockname()[1]}/{app.state.secret}/")
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def export(
    directory: Place,
    distributions: Mapping[str, Distribution],
    predictions: PredictionsByTarget | Sequence[Prediction] = (),
    *,
    token_scores: TokenScores | None = None,
) -> Place:
    """Write the page, with all of its data within it, and its styles and script: a browser alone can open it.

    Args:
        directory: where to; files of the same names are replaced.
        distributions: by name.
        predictions: those that `read_predictions` finds, or `PredictionsByTarget.stored`, read as they are asked for.
        token_scores: scores every response of every example now. That is a pass of the model for each: take few
            examples.

    Returns:
        The page, `directory/index.html`.
    """
    for name in STATIC:
        write_atomically(directory / name, static_text(name))
    data = _data(Library(distributions, predictions), token_scores)
    write_atomically(directory / "index.html", _page({name: text() for name, text in data.items()}))
    return directory / "index.html"


def _data(library: Library, token_scores: TokenScores | None) -> dict[str, Callable[[], str]]:
    """Every file of data by its path, and what makes its JSON."""
    files = {"data/info.json": lambda: json_of(library.info(tokens=token_scores is not None))}
    for number in range(len(library.splits)):
        files[f"data/{number}.json"] = partial(_split_json, library, number)
        if token_scores is not None:
            for row in range(len(library.split(number).examples)):
                files[f"data/tokens-{number}-{row}.json"] = partial(_tokens_json, library, number, row, token_scores)
    return files


def _page(data: Mapping[str, str]) -> str:
    """The page with these files of data within it; what it lacks it fetches."""
    return environment().get_template("browse.html").render(policy=POLICY, data=data)


def _split_json(library: Library, number: int) -> str:
    return json_of(library.split_data(number))


def _tokens_json(library: Library, number: int, row: int, token_scores: TokenScores) -> str:
    """The token scores of each of an example's responses, in order."""
    example = library.split(number).examples[row]
    scored = [
        [(str(text), float(score)) for text, score in token_scores(example, response)]
        for response in range(len(example.responses))
    ]
    return json_of(scored)
