"""`export`, `push` and `pull`: a probe's directions for other tools; probes and stores to and from others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from repeng.cli import options as o
from repeng.cli.console import Talk
from repeng.places import Place

if TYPE_CHECKING:
    from repeng.handing.push import Handed

Capture = Annotated[
    str | None, typer.Option("--capture", help="Of a store, this capture alone: its id, as `repeng store ls` has it.")
]
Distributions = Annotated[
    list[str] | None,
    typer.Option("--distributions", help="Of a store, these alone: comma-separated, may be given again."),
]


def export(
    probe: Annotated[Place, typer.Option("--probe", **o.AT, help="Folder of a fitted probe.")],
    to: Annotated[
        str,
        typer.Option(
            "--to", help="gguf (llama.cpp's control vector), peft (a LoRA adapter), safetensors or numpy (.npz)."
        ),
    ],
    out: Annotated[Place, typer.Option("--out", **o.AT, help="File to write; of peft the adapter's folder.")],
    layers: Annotated[
        str | None, typer.Option("--layers", help=f"Of those fitted: {o.THESE_LAYERS}. [default: the chosen ones]")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option("--alpha", help="Strength of an adapter, which is part of it (peft alone)."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model that it is for. [default: the probe's own]")
    ] = None,
    trust_code: o.TrustCode = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write a probe's directions for other tools.

    A strength of 1 is one standard deviation of the source's projections on the direction.
    """
    from repeng.errors import BadInput
    from repeng.handing.export import export as write
    from repeng.probes.selection import parse_layers

    talk = Talk(json=json, quiet=quiet)
    chosen = None if layers is None else parse_layers(layers)
    if isinstance(chosen, str):
        raise BadInput(
            f"--layers is {layers!r}; what a probe chose is the default, others are named as {o.THESE_LAYERS}"
        )
    done = write(probe, to=to, out=out, layers=chosen, alpha=alpha, model=model, trust_code=trust_code)
    plain = {
        "to": done.to,
        "out": str(done.path),
        "site": done.site,
        "units": [list(unit) for unit in done.units],
        "spread": list(done.spread),
        "alpha": alpha,
    }
    units = zip(done.units, done.spread, strict=True)
    lines = (
        f"{layer}{f' head {head}' if head >= 0 else ''}: {length * (alpha or 1.0):.3g}"
        for (layer, head), length in units
    )
    talk.result(plain, f"length of what is added by layer of {done.site}  {'  '.join(lines)}", f"wrote {done.path}")


def push(
    to: Annotated[str, typer.Option("--to", metavar="PLACE", help="hf://USER/NAME, also with @BRANCH; or a folder.")],
    probe: Annotated[Place | None, typer.Option("--probe", **o.AT, help="Folder of a fitted probe.")] = None,
    store: Annotated[Place | None, typer.Option("--store", **o.AT, help="Folder of a store.")] = None,
    capture: Capture = None,
    distributions: Distributions = None,
    replace: Annotated[bool, typer.Option("--replace", help="A probe may take the place of another one.")] = False,
    public: Annotated[
        bool, typer.Option("--public/--private", help="Who sees a repository that is made for it.")
    ] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Push a probe or a store to a repository of the hub, or to a folder.

    A probe goes to a model's repository, a store to a dataset's, in one commit, with a card. It is verified first; what
    is there already is left. Log in by `hf auth login`.
    """
    from repeng.errors import BadInput
    from repeng.handing.push import push as send
    from repeng.probes.io import DESCRIPTION

    talk = Talk(json=json, quiet=quiet)
    given = [folder for folder in (probe, store) if folder is not None]
    if len(given) != 1:
        raise BadInput("say what to push: --probe DIR or --store DIR, one of them")
    if probe is not None and (capture or distributions):
        raise BadInput("--capture and --distributions choose of a store; a probe is pushed whole")
    if probe is not None and not (probe / DESCRIPTION).is_file():
        raise BadInput(f"{probe}: no {DESCRIPTION} here; name a folder that `repeng fit` wrote, or give --store DIR")
    chosen = o.several(distributions or [])
    done = send(given[0], to, capture=capture, distributions=chosen, replace=replace, public=public)
    _say(talk, done, "pushed")


def pull(
    source: Annotated[str, typer.Argument(metavar="PLACE", help="hf://USER/NAME, also with @REVISION; or a folder.")],
    out: Annotated[Place, typer.Option("--out", **o.AT, help="The probe's folder, or the store's.")],
    capture: Capture = None,
    distributions: Distributions = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Pull a probe or a store from a repository of the hub, or from a folder.

    It is verified before it is taken in; nothing that is there is written over, and no code of it is run. A stopped
    download goes on with the same command.
    """
    from repeng.handing.pull import pull as bring

    talk = Talk(json=json, quiet=quiet)
    chosen = o.several(distributions or [])
    with talk.progress("pulling") as advance:
        done = bring(source, out, capture=capture, distributions=chosen, progress=advance)
    _say(talk, done, "pulled")


def _say(talk: Talk, done: Handed, verb: str) -> None:
    """What was handed on, or taken in."""
    plain: dict[str, Any] = {
        "kind": done.kind,
        "place": done.place,
        "commit": done.commit or None,
        verb: list(done.new),
        "there_already": list(done.there),
        "own_code": done.own_code or None,
    }
    what = "files" if done.kind == "probe" else "parts"
    at = f", commit {done.commit[:12]}" if done.commit else ""
    line = f"{done.kind}: {len(done.new)} {what} {verb}, {len(done.there)} there already, in {done.place}{at}"
    code = [f"its class is {done.own_code}, which is not part of it and was not run"] if done.own_code else []
    talk.result(plain, line, *code)
