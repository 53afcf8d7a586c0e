"""`doctor`: what repeng finds here, to be pasted into an issue."""

from __future__ import annotations

import typer

from repeng.cli import options as o
from repeng.cli.console import Talk


def doctor(store: o.Store = o.DEFAULT_STORE, json: o.Json = False) -> None:
    """Say what repeng finds here, and what of it is broken.

    Versions, devices, memory, disk, the hub, and a capture and fit of known outcome. Plain text for an issue, without
    tokens and with ~ for the home folder. The exit code is 1 where something is broken.
    """
    from dataclasses import asdict
    from itertools import groupby

    from repeng.study.doctor import examine

    found = examine(store)
    broken = [one for one in found if one.state == "broken"]
    lines = ["# repeng doctor"]
    for area, findings in groupby(found, key=lambda one: one.area):
        lines += ["", f"## {area}", ""]
        for one in findings:
            mark = {"ok": "", "note": "note: ", "broken": "BROKEN: "}[one.state]
            lines.append(f"- {mark}{one.name}: {one.value}" + (f" ({one.todo})" if one.todo else ""))
    lines += ["", f"{len(broken)} broken: see BROKEN above" if broken else "nothing is broken"]
    Talk(json=json).result({"broken": len(broken), "findings": [asdict(one) for one in found]}, "\n".join(lines))
    if broken:
        raise typer.Exit(1)
