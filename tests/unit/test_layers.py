"""The import direction, as pyproject.toml's contracts have it, and what these cannot see."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("pynvme_user", "cli", "qemu")


@functools.cache
def imports() -> list[tuple[str, str]]:
    """(file, imported module) for each import in the package."""
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found += [(name, alias.name) for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    module = "." * node.level + (node.module or "")
                    found.append((name, module))
                    below = f"{module}." if node.module else module
                    found += [(name, f"{below}{alias.name}") for alias in node.names]
    return found


def test_the_contracts_hold(tmp_path: Path) -> None:
    pytest.importorskip("importlinter", reason="import-linter is in the extra 'lint'")
    # The package's parts lie in three folders; import-linter wants one tree.
    tree = tmp_path / "pynvme_user"
    tree.mkdir()
    for path in (ROOT / "pynvme_user").iterdir():
        (tree / path.name).symlink_to(path)
    for folder in ("cli", "qemu"):
        (tree / folder).symlink_to(ROOT / folder)
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--config", ROOT / "pyproject.toml", "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_a_wheel_has_every_package() -> None:
    """An editable install does not show what is left out."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = (path.parent for top in FOLDERS for path in (ROOT / top).rglob("__init__.py"))
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    # A folder of files alone, such as the templates, is one for setuptools, too.
    assert set(setuptools["packages"]) == set(setuptools["package-data"]) | {
        name if name.startswith("pynvme_user") else f"pynvme_user.{name}" for name in names
    }


def test_each_extension_has_one_importer() -> None:
    """import-linter sees no compiled module."""
    users = {(name, module.split(".")[-1]) for name, module in imports() if "_cffi" in module}
    assert {user for user in users if user[1].endswith("_cffi")} == {
        ("pynvme_user/native.py", "_ring_cffi"),
        ("pynvme_user/testing/core.py", "_controller_cffi"),
    }


def test_spec_imports_the_standard_library_only() -> None:
    for name, module in imports():
        if name.startswith("pynvme_user/spec/"):
            top = module.split(".")[0]
            ours = module.startswith(("pynvme_user.spec", "."))
            assert ours or top in sys.stdlib_module_names or top == "_typeshed", (name, module)
            assert not module.startswith(".."), (name, module)


def test_errors_import_nothing_of_ours_at_run_time() -> None:
    code = "import sys, pynvme_user.errors; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    ours = {name for name in done.stdout.split() if name.startswith("pynvme_user")}
    assert ours == {"pynvme_user", "pynvme_user.errors"}


def test_nothing_private_of_the_core_is_used_by_the_command_line() -> None:
    for name, module in imports():
        if name.startswith("cli/") and module.startswith("pynvme_user"):
            assert not any(
                part.startswith("_") and part != "__version__" for part in module.split(".")
            ), (name, module)
