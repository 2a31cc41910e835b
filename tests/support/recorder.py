"""A software controller that keeps the commands which it gets, and their data."""

from __future__ import annotations

from collections.abc import Callable

from soft_controller import OK, SoftController

from pynvme_user import AdminOpcode, FeatureId, Status
from pynvme_user.spec.commands import SQE


class Recorder:
    """Answers admin commands but Identify and those of queues; keeps them, and their data."""

    def __init__(self, soft: SoftController) -> None:
        self.soft = soft
        self.seen: list[SQE] = []
        self.data: list[bytes] = []
        self.status = OK
        self.dw0 = 0
        self.answers: dict[int, bytes] = {}
        self.length: Callable[[SQE], int] = lambda _: 0
        soft.admin = self.admin

    def admin(self, sqe: SQE) -> Status:
        if sqe.opc in range(7) and sqe.opc != AdminOpcode.GET_LOG_PAGE:
            return OK
        if sqe.opc == AdminOpcode.SET_FEATURES and sqe.cdw10 == FeatureId.NUMBER_OF_QUEUES:
            return OK
        self.seen.append(sqe)
        if sqe.opc == AdminOpcode.GET_LOG_PAGE:
            return self.status
        assert self.soft._command is not None
        self.soft._command.dw0 = self.dw0
        if sqe.opc in self.answers:
            self.soft.fill(sqe, self.answers[sqe.opc])
        elif length := self.length(sqe):
            self.data.append(self.soft.data(sqe, length))
        return self.status

    def take(self) -> list[SQE]:
        seen, self.seen = self.seen, []
        return seen

    def only(self) -> SQE:
        (one,) = self.take()
        return one
