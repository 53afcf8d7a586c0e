"""The loop of docs/python.md is quick; `make pages` runs all of the page."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"


def test_the_loop_of_the_page_runs_as_written_in_under_20_seconds() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text().partition("## Studies")[0], flags=re.DOTALL)
    assert len(blocks) == 3 and "sklearn" in blocks[1]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert told.returncode == 0, told.stderr
    # On one core these are the seconds that it takes, whatever else the machine does meanwhile.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 20
    aurocs = [float(value) for value in re.findall(r"^auroc +(\S+)", told.stdout, flags=re.MULTILINE)]
    assert len(aurocs) == 3 and min(aurocs) > 0.9
    assert len(re.findall(r"^ *(?:mms|LogisticRegression) +[24] ", told.stdout, flags=re.MULTILINE)) == 4
