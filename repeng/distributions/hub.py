"""Datasets of the Hugging Face hub, or folders in its layout, through the `datasets` library."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from repeng.distributions.rows import Rows, check_unpacked
from repeng.errors import BadData, BadInput

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubSource:
    """One configuration of a hub dataset."""

    name: str
    path: str
    config: str

    @property
    def place(self) -> str:
        """The dataset and, where it has several, the configuration."""
        return self.path if self.config == "default" else f"{self.path} ({self.config})"

    @property
    def origin(self) -> str:
        """As the hub names it."""
        return self.place

    def splits(self) -> Sequence[str]:
        """The dataset's own split names."""
        return tuple(self._dataset)

    def split_place(self, split: str) -> str:
        """The dataset and the split."""
        return f"{self.place}, split {split}"

    def rows(self, split: str) -> Rows:
        """The split's rows as Python values."""
        table = self._dataset[split]
        try:
            check_unpacked(len(table), table.data.nbytes)
        except BadData as error:
            raise BadData(error.reason, path=self.split_place(split)) from error
        return table.to_list()

    @cached_property
    def _dataset(self) -> Any:
        import datasets

        with _one_message(self.path):
            return datasets.load_dataset(self.path, self.config)


def hub_sources(path: str) -> tuple[HubSource, ...]:
    """Each configuration of a dataset as a distribution; a single one is named after the dataset.

    Args:
        path: a hub id, OWNER/NAME, or a local folder in the hub's layout.

    Raises:
        BadInput: the hub cannot be reached or has no such dataset.
    """
    import datasets

    if not Path(path).is_absolute():
        logger.info("asking the Hugging Face hub for %s (without a network it gives up after half a minute)", path)
    with _one_message(path):
        configs = datasets.get_dataset_config_names(path)
    if len(configs) == 1:
        return (HubSource(path.rstrip("/").rpartition("/")[2], path, configs[0]),)
    return tuple(HubSource(config, path, config) for config in configs)


@contextmanager
def quiet_attempts() -> Iterator[None]:
    """Without the warning that huggingface_hub gives of each attempt to reach the hub."""
    chatter = logging.getLogger("huggingface_hub.utils._http")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        yield
    finally:
        chatter.setLevel(level)


@contextmanager
def _one_message(path: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes one message."""
    try:
        with quiet_attempts():
            yield
    except Exception as error:  # datasets, huggingface_hub, pyarrow and the network: four families of errors
        logger.debug("loading %s failed", path, exc_info=True)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if Path(path).is_absolute():
            raise BadInput(f"{path} could not be loaded as a dataset in the hub's layout: {reason}") from error
        raise BadInput(
            f"{path!r} is no file or folder here, and the Hugging Face hub did not give a dataset of that name: "
            f"{reason}. Check the name and the network; a downloaded copy can be given by its path"
        ) from error
