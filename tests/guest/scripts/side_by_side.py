"""The same commands by nvme-cli on the kernel's driver, and by nvme-user over VFIO.

    side_by_side.py ADDRESS COMMANDS

COMMANDS is a file with a JSON list of commands: ``id``, ``theirs``, ``ours``, with the
controller's place in them as {} and that of a namespace's disk as {disk}n1; ``kernel`` where ours
runs under the kernel's driver. Begins with the
controller under that, and ends bound to vfio-pci. Prints one JSON object for each command and
program. Ours runs as the program does, in a fork of this process that has imported all of it.
"""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pynvme_user.cli.main import main as nvme_user
from pynvme_user.host.binding import bind


def import_all() -> None:
    for name in ("cli", "driver", "spec", "access", "transport"):
        package = importlib.import_module(f"pynvme_user.{name}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(".nbdkit_plugin"):  # for nbdkit's own Python
                importlib.import_module(module.name)


def report(name: str, by: str, exit: int, output: bytes, errors: bytes) -> None:
    said = {"output": output.decode(errors="replace"), "errors": errors.decode(errors="replace")}
    print(json.dumps({"id": name, "by": by, "exit": exit, **said}), flush=True)


def run_theirs(name: str, words: list[str]) -> None:
    done = subprocess.run(["nvme", *words], stdin=subprocess.DEVNULL, capture_output=True)
    report(name, "theirs", done.returncode, done.stdout, done.stderr)


def run_ours(name: str, words: list[str]) -> None:
    """Run it in a fork, whose exit code is the program's."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(output.fileno(), 1)
                os.dup2(errors.fileno(), 2)
                sys.argv = ["nvme-user", *words]
                code = nvme_user()
                sys.stdout.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        said = []
        for file in (output, errors):
            file.seek(0)
            said.append(file.read())
    report(name, "ours", os.waitstatus_to_exitcode(status), *said)


def main(address: str, path: str) -> None:
    import_all()
    commands = json.loads(Path(path).read_text())
    (device,) = Path(f"/sys/bus/pci/devices/{address}/nvme").glob("nvme*")
    (subsystem,) = Path("/sys/class/nvme-subsystem").glob(f"*/{device.name}")
    disk = subsystem.parent.name.replace("-subsys", "")  # whose number is not the controller's
    places = {"{}": f"/dev/{device.name}", "{disk}": f"/dev/{disk}"}
    for command in commands:
        run_theirs(command["id"], placed(command["theirs"], places))
        if command["kernel"]:
            run_ours(command["id"], placed(command["ours"], places))
    bind(address)
    for command in commands:
        if not command["kernel"]:
            run_ours(command["id"], placed(command["ours"], {"{}": f"vfio:{address}"}))


def placed(words: list[str], places: dict[str, str]) -> list[str]:
    for place, name in places.items():
        words = [word.replace(place, name) for word in words]
    return words


if __name__ == "__main__":
    main(*sys.argv[1:])
