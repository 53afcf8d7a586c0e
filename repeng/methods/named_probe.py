"""A probe by its name, with where it reads in the same parentheses: `mms(token='mean:assistant')`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from repeng.activations.token_rules import token_rule
from repeng.distributions.stimuli import Stimulus, get_stimulus
from repeng.errors import BadInput, UnknownParameter
from repeng.methods.names import parse_name, with_parameters
from repeng.models.sites import named_site
from repeng.probes.base import Probe
from repeng.probes.fitting import ProbeSpec
from repeng.probes.registry import get_probe
from repeng.probes.selection import LayerChoice

PLACES = ("token", "site", "stimulus")
"""Parameters that say where a probe reads; the others are its own."""


@dataclass(frozen=True)
class NamedProbe:
    """An unfitted probe and where it reads, as a user named them.

    Attributes:
        name: with the parameters that differ from the defaults.
        probe: unfitted.
        site: a hook site; empty for the probe's own.
        token: a token rule; empty for the probe's own.
        stimuli: in place of the probe's own, as many as it reads; empty for those.

    Raises:
        BadInput: a preset is to read elsewhere; a probe of one vector a text is to read every token, or one of every
            token a single vector; or it is given another number of stimuli than it reads.
        UnknownName: there is no such token or stimulus.
    """

    name: str
    probe: Probe
    site: str = ""
    token: str = ""
    stimuli: tuple[Stimulus, ...] = ()

    def __post_init__(self) -> None:
        probe = self.probe
        if probe.rule == "genies" and (self.site or self.token or self.stimuli):
            raise BadInput(
                f"{probe.name} reads what GENIES' released code reads; leave {', '.join(PLACES)} out, or take "
                f"{probe.name.removesuffix('-genies')}"
            )
        check_token(probe, self.token or probe.token)
        if self.stimuli and len(self.stimuli) != len(probe.stimuli):
            own = ", ".join(probe.stimuli)
            raise BadInput(
                f"{probe.name} reads {len(probe.stimuli)} stimuli ({own}), and {len(self.stimuli)} are named; give as "
                "many, joined by +"
            )

    @classmethod
    def of(cls, text: str) -> NamedProbe:
        """The probe of a name with parameters."""
        name, parameters = parse_name(text)
        return cls.made(name, parameters)

    @classmethod
    def made(cls, name: str, parameters: Mapping[str, Any]) -> NamedProbe:
        """The probe of a name and its parameters, some of which say where it reads.

        Raises:
            UnknownName, BadInput: as `get_probe`; or a place is no text.
        """
        places = {key: value for key, value in parameters.items() if key in PLACES}
        if wrong := [key for key, value in places.items() if not isinstance(value, str) or not value]:
            raise BadInput(
                f"{name}: {wrong[0]} is {places[wrong[0]]!r}; give its name, as {name}(token='response_mean')"
            )
        try:
            probe = get_probe(name, **{key: value for key, value in parameters.items() if key not in PLACES})
        except UnknownParameter as error:
            raise BadInput(f"{error}; or from where it reads: {', '.join(PLACES)}") from error
        stimuli = places["stimulus"].split("+") if "stimulus" in places else ()
        # A file's path cannot name a folder of evaluations; the class's own name can.
        return cls(
            with_parameters(probe.name, parameters),
            probe,
            named_site(places["site"]) if "site" in places else "",
            places.get("token", ""),
            tuple(map(get_stimulus, stimuli)),
        )

    def spec(self, layers: LayerChoice = "auto", *, seed: int = 0) -> ProbeSpec:
        """What is to be fitted, and how."""
        names = tuple(stimulus.name for stimulus in self.stimuli)
        return ProbeSpec(self.probe, layers, site=self.site, token=self.token, stimuli=names, seed=seed)

    @property
    def reads(self) -> tuple[Stimulus, ...]:
        """The stimuli that it reads, in their order."""
        return self.stimuli or tuple(map(get_stimulus, self.probe.stimuli))


def check_token(probe: Probe, token: str) -> None:
    """Refuse a token that a probe cannot read.

    Raises:
        BadInput: it reads one vector a text and the token is every one, or the other way round.
        UnknownName: there is no such token.
    """
    every = token_rule(token).kind == "tokens"
    if every and not probe.ragged:
        raise BadInput(
            f"{probe.name} reads one vector a text, and {token!r} is every token; take response_mean or "
            "mean:assistant, or a probe over tokens such as attention"
        )
    if probe.ragged and not every:
        raise BadInput(
            f"{probe.name} reads every token of a text, and {token!r} is one vector; take all or all:assistant"
        )
