"""`repeng steer`: a model with a direction added to its activations, or taken out, as it scores or writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from repeng.cli import options as o
from repeng.cli.console import Talk
from repeng.errors import BadInput, UnknownName
from repeng.places import Place

if TYPE_CHECKING:
    from repeng.distributions.stimuli import Stimulus
    from repeng.models.load import LanguageModel
    from repeng.probes.fitted import FittedProbe
    from repeng.steering.eraser import Eraser
    from repeng.steering.hooks import Edits


def steer(
    probe: Annotated[
        Place | None, typer.Option("--probe", **o.AT, help="Folder of a fitted probe, whose direction is taken.")
    ] = None,
    eraser: Annotated[
        Place | None,
        typer.Option("--eraser", **o.AT, help="Folder of an eraser, of repeng erase --out, in place of a probe."),
    ] = None,
    model: o.ProbesModel = None,
    alpha: Annotated[
        str,
        typer.Option(
            "--alpha",
            help="How much of the direction is added, in standard deviations of the source along it; several, as "
            "-2,1,2, one after the other.",
        ),
    ] = "",
    project_out: Annotated[
        bool, typer.Option("--project-out", help="Also set the projection on the direction to the source's mean.")
    ] = False,
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="Where, as 3, 4-8 or 2,5. [default: the layers that the probe chose]"),
    ] = None,
    tokens: Annotated[
        str,
        typer.Option("--tokens", help="Which are edited: all, prompt, or response (what follows the prompt)."),
    ] = "all",
    generate: Annotated[
        str | None, typer.Option("--generate", help="Have the model write on from this prompt, as it is and steered.")
    ] = None,
    max_new_tokens: o.MaxNewTokens = o.MAX_NEW_TOKENS,
    temperature: o.Temperature = 0.0,
    seed: o.SamplingSeed = 0,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="In place of --generate: score the model on the test splits of these, comma-separated; may be given "
            "again.",
        ),
    ] = None,
    data: o.Data = None,
    benchmark: o.BenchmarkName = None,
    limit: o.Limit = None,
    too_long: o.TooLong = "skip",
    any_model: o.AnyModel = False,
    trust_code: o.TrustCode = False,
    device: o.Device = "auto",
    device_map: o.DeviceMap = None,
    dtype: o.ComputeDtype = "auto",
    quantization: o.Quantization = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Add a fitted direction to a model's activations, or take it out, while it scores responses or writes.

    Strengths are in standard deviations of the source's projections, so that 1 means the same at every layer.
    """
    from repeng.models.load import load_model
    from repeng.probes.io import load
    from repeng.steering.eraser import Eraser
    from repeng.steering.questions import STEERED
    from repeng.steering.steer import check_model

    talk = Talk(json=json, quiet=quiet)
    if tokens not in STEERED:
        raise UnknownName("tokens to steer at", tokens, STEERED)
    if (generate is None) == (target is None):
        raise BadInput(
            "give one of --generate PROMPT, to see what the model writes, and --target, to score its answers"
        )
    if (probe is None) == (eraser is None):
        raise BadInput("give --probe, a folder of repeng fit, or --eraser, one of repeng erase; one of them")
    along: FittedProbe | Eraser
    if probe is not None:
        along = load(probe, trust_code=trust_code)
    else:
        assert eraser is not None
        along = Eraser.load(eraser)
    edits = _edits(along, alpha, project_out=project_out, layers=layers)
    lm = load_model(
        o.own_model(model, along.provenance),
        device=device,
        dtype=dtype,
        device_map=device_map,
        quantization=quantization or "auto",
    )
    check_model(lm, along, any_model=any_model)
    where = f"{along.site} of layer(s) {', '.join(sorted({str(layer) for own in edits.values() for layer, _ in own}))}"
    talk.note(f"{lm.name}: {where}, fitted on {along.provenance.get('source', 'an unknown source')}")
    if generate is not None:
        from repeng.models.sampling import Sampling

        how = Sampling(max_new_tokens, temperature, seed)
        _written(lm, along, edits, generate, how, tokens, talk)
        return
    from repeng.benchmarks.loaded import load_benchmark
    from repeng.report.steered_table import steered_record, steered_tables
    from repeng.steering.steered_model import SteeredModel
    from repeng.study.steered_scores import steered_rows

    names = o.several(target or [])
    world = load_benchmark(benchmark, data, limit=limit).only(names)
    steered, rows = SteeredModel(lm, too_long=too_long), []
    with talk.progress("targets") as advance:
        for number, name in enumerate(names, start=1):
            split = world.distributions[name].test
            rows += steered_rows(steered, split, along.site, edits, form=_stimulus(along).form, tokens=tokens)
            advance(number, len(names))
    talk.result([steered_record(row) for row in rows], *steered_tables(rows))


def _edits(along: FittedProbe | Eraser, alpha: str, *, project_out: bool, layers: str | None) -> dict[str, Edits]:
    """What is done, by what a row calls it.

    Raises:
        BadInput: nothing is; a strength is no number; or something is to be added of an eraser.
    """
    from repeng.probes.selection import parse_layers
    from repeng.steering.eraser import Eraser
    from repeng.steering.steer import edits_along, edits_of_eraser
    from repeng.steering.vector import SteeringVector

    chosen = None if layers is None else parse_layers(layers)
    if isinstance(chosen, str):
        raise BadInput(f"layers is {layers!r}, which a fit chooses by; to steer give {o.THESE_LAYERS}")
    try:
        alphas = [float(each) for each in alpha.split(",")] if alpha else []
    except ValueError as error:
        raise BadInput(f"--alpha is {alpha!r}; give a number, or several as -2,1,2") from error
    if isinstance(along, Eraser):
        if alphas or project_out:
            raise BadInput("an eraser takes a subspace out and adds nothing; leave --alpha and --project-out out")
        return {f"erased ({along.by})": edits_of_eraser(along, chosen)}
    if not any(alphas) and not project_out:
        raise BadInput("nothing is to be done: give --alpha, a strength other than 0, or --project-out")
    vector = SteeringVector.of(along, chosen)
    out = "projected out" if project_out else ""
    added = {f"{out + ', ' if out else ''}alpha {each:g}": each for each in alphas if each}
    every = {**({out: 0.0} if out else {}), **added}
    return {name: edits_along(vector, alpha=each, project_out=project_out) for name, each in every.items()}


def _stimulus(along: FittedProbe | Eraser) -> Stimulus:
    """How the texts were written that it was fitted on, without what stands after a response."""
    from repeng.distributions.stimuli import CHAT, get_stimulus

    stimuli = getattr(along, "stimuli", None) or along.provenance.get("stimuli") or ("plain",)
    return get_stimulus(CHAT if str(stimuli[0]).startswith(CHAT) else "plain")


def _written(
    lm: LanguageModel,
    along: FittedProbe | Eraser,
    edits: dict[str, Edits],
    prompt: str,
    how: Any,
    tokens: str,
    talk: Talk,
) -> None:
    """Show what the model writes, as it is and under each edit."""
    from repeng.steering.generation import continued
    from repeng.steering.steer import steering

    chosen = {"response": "generated"}.get(tokens, tokens)
    stimulus, shown, plain = _stimulus(along), [], []
    for name, own in {"as it is": None, **edits}.items():
        context = None if own is None else steering(lm, along.site, own, chosen)
        text = continued(lm, stimulus, prompt, how, context)
        plain.append({"edit": name, "text": text})
        shown += [f"--- {name}", text]
    talk.result({"prompt": prompt, "texts": plain}, *shown)
