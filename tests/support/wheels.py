"""Build the wheel and the sdist, install each in a new environment of each Python, and use it.

    python tests/support/wheels.py [PYTHON...]

Without arguments: each python3.11 and later on PATH and under pyenv. Takes minutes, and installs
packages, so that no test runs it. Exits with 1 where something fails or warns of a deprecation.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
OLDEST = (3, 11)
USE = """
import asyncio, pynvme_user as nvme
with nvme.open("soft:?size=1M") as ctrl:
    ns = ctrl.namespaces[1]
    ns.write(0, b"x" * 512)
    assert ns.read(0, 1) == b"x" * 512
async def main():
    async with nvme.aopen("soft:?size=1M") as ctrl:
        assert not any(await ctrl.namespaces[1].read(0, 1))
asyncio.run(main())
"""


def run(*command: str | Path, folder: Path) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "default::DeprecationWarning"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def version_of(python: str) -> tuple[int, ...]:
    code = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return tuple(map(int, done.stdout.split()))


def pythons() -> list[str]:
    """One of each version."""
    found: dict[tuple[int, ...], str] = {}
    candidates = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    candidates += map(str, sorted(Path.home().glob(".pyenv/versions/*/bin/python3")))
    for python in filter(None, candidates):
        version = version_of(python)
        if version >= OLDEST:
            found.setdefault(version, python)
    return [found[version] for version in sorted(found)]


def use(python: str, package: Path, folder: Path) -> None:
    """Install a package in a new environment, and use it there."""
    environment = folder / f"{package.suffix[1:]}{'.'.join(map(str, version_of(python)))}"
    run(python, "-m", "venv", environment, folder=folder)
    programs = environment / "bin"
    run(programs / "pip", "install", "--quiet", package, folder=folder)
    said = run(programs / "python", "-c", USE, folder=folder)
    said += run(programs / "nvme-user", "id-ctrl", "soft:?size=1M", "-o", "json", folder=folder)
    warned = "DeprecationWarning" in said
    print(f"{package.name} on {python}: {'DEPRECATION' if warned else 'ok'}", flush=True)
    if warned:
        raise SystemExit(said)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run(sys.executable, "-m", "venv", folder / "build", folder=folder)
        run(folder / "build/bin/pip", "install", "--quiet", "build", folder=folder)
        said = run(folder / "build/bin/python", "-m", "build", "-o", folder, ROOT, folder=folder)
        if "deprecated" in said:
            raise SystemExit(said)
        for python in sys.argv[1:] or pythons():
            for package in (*folder.glob("*.whl"), *folder.glob("*.tar.gz")):
                use(python, package, folder)


if __name__ == "__main__":
    main()
