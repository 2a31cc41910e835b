"""The features' values: dword 11 and what a completion's dword 0 has (NVMe Base 2.0, 5.27.1)."""

from .fields import Bits, Register


class NumberOfQueuesCdw11(Register, width=32):
    """Number of Queues, as requested in dword 11 (5.27.1.5)."""

    nsqr = Bits(15, 0, "Number of I/O Submission Queues Requested (zero-based)")
    ncqr = Bits(31, 16, "Number of I/O Completion Queues Requested (zero-based)")


class NumberOfQueuesResult(Register, width=32):
    """Number of Queues, as granted in the completion's dword 0 (5.27.1.5)."""

    nsqa = Bits(15, 0, "Number of I/O Submission Queues Allocated (zero-based)")
    ncqa = Bits(31, 16, "Number of I/O Completion Queues Allocated (zero-based)")
