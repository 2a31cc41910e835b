"""All declarations of ``pynvme_user.spec``."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from pynvme_user import spec
from pynvme_user.spec.fields import Register, Struct
from pynvme_user.spec.lists import StructList

_MODULES = [
    import_module(f"{spec.__name__}.{found.name}") for found in pkgutil.iter_modules(spec.__path__)
]

#: What declarations are made of.
_MEANS = {f"{spec.__name__}.fields", f"{spec.__name__}.lists"}


def _declared(base: type) -> Iterator[type]:
    for module in _MODULES:
        for _, cls in inspect.getmembers(module, inspect.isclass):
            ours = cls.__module__ == module.__name__ and module.__name__ not in _MEANS
            if issubclass(cls, base) and cls is not base and ours:
                yield cls


REGISTER_CLASSES: list[type[Register]] = list(_declared(Register))
STRUCT_CLASSES: list[type[Struct]] = list(_declared(Struct))
LIST_CLASSES: list[type[StructList[Any, Any]]] = list(_declared(StructList))
