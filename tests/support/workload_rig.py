"""The benchmark's loop on a ring whose device is played by the test."""

from __future__ import annotations

import numpy as np
from ring_rig import Rig, data_buffer

from pynvme_user.spec.commands import SQE, NvmOpcode
from pynvme_user.workload.generator import Generator
from pynvme_user.workload.loop import Workload

SECOND = 1_000_000_000
SLICE = 50_000
NONE_YET = 2**64 - 1
OPCODES = {0: NvmOpcode.READ, 1: NvmOpcode.WRITE, 2: NvmOpcode.DATASET_MANAGEMENT}
COMMANDS = {
    direction: bytes(SQE.build(opc=opcode, nsid=1, cdw13=direction))
    for direction, opcode in OPCODES.items()
}


def workload(
    gen: Generator | None, rig: Rig, depth: int | None = None, **options: object
) -> Workload:
    """Make a workload with a data buffer on ordinary memory, which it keeps alive."""
    arguments: dict[str, object] = {
        "commands": COMMANDS,
        "buffer": data_buffer(rig.depth),
        "queue_depth": rig.depth,
        "block_shift": 9,
        "depth": depth,
    }
    return Workload(gen, **(arguments | options))  # type: ignore[arg-type]


def squares(histogram: np.void) -> int:
    return int(histogram["squares_high"]) << 64 | int(histogram["squares_low"])


def total(work: Workload, name: str) -> int:
    return int(work.results[name].sum())
