"""Formats with metadata, as QEMU's namespaces have them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A namespace of QEMU's with metadata: the options of its nvme-ns."""

    block: int
    ms: int
    mset: int
    pi: int = 0
    pil: int = 0
    pif: int = 0

    def __str__(self) -> str:
        where = "interleaved" if self.mset else "separate"
        return f"{self.block}+{self.ms} {where} type{self.pi} pil{self.pil} pif{self.pif}"

    def options(self, nsid: int) -> str:
        prefix = "" if nsid == 1 else f"ns{nsid}."
        first = "" if nsid == 1 else f"ns{nsid}=&"
        fields = {"size": "16M", "logical_block_size": self.block, "ms": self.ms}
        fields |= {"mset": self.mset, "pi": self.pi, "pil": self.pil, "pif": self.pif}
        return first + "&".join(f"{prefix}{key}={value}" for key, value in fields.items())
