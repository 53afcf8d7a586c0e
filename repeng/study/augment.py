"""Source augmentation (Clymer et al. 2023): a share of the target's train examples mixed into the source."""

from __future__ import annotations

import numpy as np

from repeng.distributions.mixture import Mixture, mixed
from repeng.distributions.schema import Split
from repeng.errors import BadInput


def augment(source: Split, target: Split, share: float, *, seed: int = 0) -> Mixture:
    """The source's examples with a share of the target's among them, in the places that the seed gives.

    Args:
        source: train split of the source; its examples keep their order.
        target: train split of the target. Its test split has no business here.
        share: of the target's examples, above 0 and up to 1; at least one example is mixed in.
        seed: of which examples, and where they go.

    Returns:
        A split named `SOURCE+1pct-of-TARGET`, so that nothing takes it for the source itself.

    Raises:
        BadInput: a share out of range, or a split that is not a train split.
    """
    if not 0 < share <= 1:
        raise BadInput(f"the share to mix in is {share}; give one above 0 and up to 1, as 1% or 0.01")
    if target.name == "test":
        raise BadInput(f"{target.distribution}: its test split is for testing; mix in examples of its train split")
    draw = np.random.default_rng([seed, int(target.data_hash, 16)])
    count = max(1, round(share * len(target.examples)))
    taken = draw.choice(len(target.examples), size=count, replace=False)
    examples = [(source, number) for number in range(len(source.examples))]
    places = np.sort(draw.choice(len(examples) + count, size=count, replace=False))
    for place, number in zip(places.tolist(), taken.tolist(), strict=True):
        examples.insert(place, (target, number))
    return mixed(f"{source.distribution}+{share * 100:g}pct-of-{target.distribution}", source.name, examples)
