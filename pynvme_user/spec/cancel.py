"""Cancel, the I/O command that aborts others of its own queue (NVMe Base 2.1, 7.1)."""

from enum import IntEnum

from .commands import NSID_ALL, SQE, NvmOpcode
from .fields import Bits, Register, Reserved

CID_ALL = 0xFFFF  # what CID is with CancelAction.MULTIPLE


class CancelAction(IntEnum):
    """ACODE, which commands are cancelled."""

    SINGLE = 0  # the one with that CID, of the namespace or of any (NSID FFFFFFFFh)
    MULTIPLE = 1  # all of the queue, of the namespace or of any


class CancelCdw10(Register, width=32):
    """Cancel, dword 10."""

    sqid = Bits(15, 0, "Submission Queue Identifier (that of the command's own queue)")
    cid = Bits(31, 16, "Command Identifier")


class CancelCdw11(Register, width=32):
    """Cancel, dword 11."""

    acode = Bits(1, 0, "Action Code", CancelAction)
    _r31_2 = Reserved(31, 2)


class CancelResult(Register, width=32):
    """Cancel, the completion's dword 0.

    A command whose abort is deferred completes later, with the status Command Abort Requested or
    with its own.
    """

    cmda = Bits(15, 0, "Commands Aborted")
    ceda = Bits(31, 16, "Commands Eligible for Deferred Abort")


def cancel_one(sqid: int, cid: int) -> SQE:
    """Make the Cancel of one command, of whatever namespace."""
    return SQE.build(
        opc=NvmOpcode.CANCEL,
        nsid=NSID_ALL,
        cdw10=CancelCdw10.build(sqid=sqid, cid=cid),
        cdw11=CancelCdw11.build(acode=CancelAction.SINGLE),
    )
