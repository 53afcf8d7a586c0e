"""What prompted baselines must know of a model: how it counts tokens, and how many examples fit before a prompt."""

from __future__ import annotations

from functools import cache

from repeng.benchmarks.loaded import LoadedBenchmark
from repeng.distributions.chat import chat_renderer
from repeng.methods.few_shot import room_for_shots
from repeng.methods.prompted import Prompting
from repeng.models.fingerprint import find_model
from repeng.study.capture_plan import ModelSettings

CONTEXT = 2048
"""Tokens that a model takes where it names no limit."""


def prompting_for(settings: ModelSettings, world: LoadedBenchmark, *, seed: int = 0) -> Prompting:
    """Count with the model's tokenizer; leave room for every test text of the world that fits the model alone."""
    from transformers import AutoTokenizer

    source = find_model(settings.model)
    tokenizer = AutoTokenizer.from_pretrained(source.path, **({"revision": source.commit} if source.commit else {}))

    @cache
    def count(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    limit = settings.identity.max_length or CONTEXT
    targets = {shift.target for shift in world.benchmark.shifts} | set(world.benchmark.sources)
    render = chat_renderer(tokenizer)
    room = min(room_for_shots(world.distributions[name].test, limit, count, render) for name in targets)
    return Prompting(count, room, seed, render)
