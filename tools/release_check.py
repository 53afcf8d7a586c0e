"""Check a release before it is made: `make release-check`.

It builds the source archive, and the wheel from that, out of what git has in its index; looks whether the wheel holds
every file of repeng/ and no other; installs it in a bare environment, and plans the embedded study there, offline.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints. SystemExit with its output where it fails."""
    print("+", *command, flush=True)
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}{done.stderr}{command[0]} ended with {done.returncode}")
    return done.stdout


def build(folder: Path) -> Path:
    """The wheel, made from the source archive, as `python -m build` does."""
    source = folder / "source"
    run("git", "checkout-index", "--all", f"--prefix={source}/", cwd=ROOT)
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", cwd=source, PIP_CONSTRAINT=str(CONSTRAINTS))
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def check_files(wheel: Path) -> None:
    """SystemExit where the wheel lacks a file of repeng/, or holds another."""
    wanted = set(run("git", "ls-files", "repeng", cwd=ROOT).split())
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if wanted != found:
        raise SystemExit(f"missing in the wheel: {sorted(wanted - found)}; not of repeng/: {sorted(found - wanted)}")
    print(f"{wheel.name}: {len(found)} files, {wheel.stat().st_size / 1e6:.1f} MB")


def check_installed(wheel: Path, folder: Path) -> None:
    """Install the wheel and nothing else in a new environment, and use it from an empty folder."""
    environment, empty = folder / "environment", folder / "empty"
    venv.create(environment, with_pip=True)
    empty.mkdir()
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "-c", CONSTRAINTS, wheel, cwd=empty)
    run(python, "-m", "pip", "check", cwd=empty)
    offline = {"HF_HUB_OFFLINE": "1", "HOME": str(empty), "PYTHONPATH": ""}
    version = run(environment / "bin" / "repeng", "--version", cwd=empty, **offline)
    if wheel.name.split("-")[1] not in version:
        raise SystemExit(f"{wheel.name} says that it is {version}")
    print(version + run(environment / "bin" / "repeng", "run", "--dry-run", cwd=empty, **offline))


def main() -> None:
    """Build, look, install, run."""
    with tempfile.TemporaryDirectory(prefix="release-check-") as name:
        wheel = build(Path(name))
        check_files(wheel)
        check_installed(wheel, Path(name))
    print("the release can be made")


if __name__ == "__main__":
    main()
