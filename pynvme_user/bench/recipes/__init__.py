"""Job files that `nvme-user bench` finds by their names."""

from importlib.resources import files
from pathlib import Path

_FOLDER = files(__name__)


def names() -> list[str]:
    """Tell the names of all recipes."""
    found = (Path(each.name) for each in _FOLDER.iterdir())
    return sorted(path.stem for path in found if path.suffix == ".fio")


def path(name: str) -> Path:
    """Tell where the job file of a recipe is. The package lies in a folder, and in no archive."""
    return Path(str(_FOLDER.joinpath(f"{name}.fio")))
