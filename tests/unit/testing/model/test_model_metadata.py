"""Metadata and protection information of the model."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from refusals import refused

import pynvme_user as nvme
from pynvme_user import Controller
from pynvme_user.spec.commands import NvmOpcode
from pynvme_user.spec.identify_nvm import GuardFormat, IdentifyNamespaceNvm
from pynvme_user.spec.nvm import ProtectionCdw15, ReadCdw12
from pynvme_user.spec.protection import PRINFO, PROTECTION_INFO, TagSpace
from pynvme_user.spec.status import CommandSpecificStatus, GenericStatus, MediaStatus
from pynvme_user.testing.model.protection import CRCS

M = MediaStatus
CHECK = PRINFO.build(grdchk=1, atchk=1, rtchk=1)
ACT = PRINFO.build(pract=1)
BLOCKS = 4


def test_what_the_checks_are() -> None:
    """The check values of the catalogue of parametrised CRC algorithms."""
    rows = np.frombuffer(b"123456789" * 2, np.uint8).reshape(2, 9)
    for guard, value in (
        (GuardFormat.GUARD_16B, 0xD0DB),
        (GuardFormat.GUARD_32B, 0xE3069283),
        (GuardFormat.GUARD_64B, 0xAE8B14860A799888),
    ):
        assert CRCS[guard].of(rows) == [value, value]
    assert zlib.crc32(b"123456789") != 0xE3069283  # another polynomial


class Host:
    """Reads and writes blocks with metadata by raw commands."""

    def __init__(self, ctrl: Controller, index: int, *, extended: bool, pit: int = 0) -> None:
        ctrl.format(1, index, extended=extended, protection=pit)
        self.ctrl = ctrl
        self.page = ctrl.namespaces[1].identify
        self.size, self.metadata = 1 << self.page.lbaf.ds, self.page.lbaf.ms
        self.extended = extended
        raw = ctrl.identify_page(5, nsid=1)
        elbaf = IdentifyNamespaceNvm.from_bytes(raw).elbafs[index].elbaf
        self.space = TagSpace.of(elbaf)
        self.kind = PROTECTION_INFO[GuardFormat(elbaf.guard)]

    def run(
        self,
        opcode: int,
        data: bytes = b"",
        metadata: bytes = b"",
        *,
        lba: int = 0,
        prinfo: int = 0,
        app: int = 0,
        storage: int = 0,
        reference: int | None = None,
        stc: int = 0,
    ) -> tuple[bytes, bytes]:
        """Run a command of four blocks; return data and metadata afterwards."""
        tags = self.space.dwords(storage, lba if reference is None else reference)
        size = BLOCKS * (self.size + self.metadata * self.extended)
        memory = self.ctrl.alloc(size + 4096)
        whole = memory[:size]
        # Nothing but protection information is not moved where the controller makes it.
        alone = prinfo & ACT and self.metadata == self.kind.size
        length = BLOCKS * self.size if alone else size
        array = np.frombuffer(data.ljust(BLOCKS * self.size, b"\0"), np.uint8)
        extra = np.frombuffer(metadata.ljust(BLOCKS * self.metadata, b"\0"), np.uint8)
        if self.extended and length == size:
            rows = [array.reshape(BLOCKS, -1), extra.reshape(BLOCKS, -1)]
            whole[:] = np.hstack(rows).reshape(-1)
        else:
            whole[: len(array)] = array
        aside = self.ctrl.alloc(4096)
        aside[: len(extra)] = extra
        fields = {"cdw10": lba, "mptr": aside.iova, **tags}
        self.ctrl.io(
            opcode,
            nsid=1,
            buffer=whole[:length] if opcode != NvmOpcode.VERIFY else None,
            cdw12=ReadCdw12.build(nlb=BLOCKS - 1, prinfo=prinfo, stc=stc),
            cdw15=ProtectionCdw15.build(lbat=app, lbatm=0xFFFF),
            **fields,  # type: ignore[arg-type]
        )
        if self.extended and length == size:
            rows2 = np.array(whole).reshape(BLOCKS, -1)
            return rows2[:, : self.size].tobytes(), rows2[:, self.size :].tobytes()
        return whole[: BLOCKS * self.size].tobytes(), aside[: len(extra)].tobytes()


@pytest.fixture
def ctrl() -> Iterator[Controller]:
    with nvme.open("soft:?size=1M&commands=all") as ctrl:
        yield ctrl


def formats(ctrl: Controller) -> list[tuple[int, int]]:
    page = ctrl.namespaces[1].identify
    return [(1 << form.ds, form.ms) for form in page.lbafs if form.ds]


WITH_METADATA = [(512, 8), (4096, 8), (4096, 64), (4096, 16)]


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("form", WITH_METADATA)
def test_metadata_goes_with_its_blocks(
    ctrl: Controller, form: tuple[int, int], extended: bool
) -> None:
    host = Host(ctrl, formats(ctrl).index(form), extended=extended)
    data, metadata = b"d" * BLOCKS * host.size, bytes(range(BLOCKS * host.metadata))
    host.run(NvmOpcode.WRITE, data, metadata)
    assert host.run(NvmOpcode.READ) == (data, metadata)
    host.run(NvmOpcode.COMPARE, data, metadata)
    with refused(M.COMPARE_FAILURE):
        host.run(NvmOpcode.COMPARE, data, metadata[:-1] + b"!")
    host.run(NvmOpcode.WRITE_ZEROES)
    assert not any(host.run(NvmOpcode.READ)[1])


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("pit", [1, 2, 3])
@pytest.mark.parametrize("index", range(3, 8))
def test_each_error_is_reported_as_what_it_is(
    ctrl: Controller, index: int, pit: int, extended: bool
) -> None:
    host = Host(ctrl, index - 1, extended=extended, pit=pit)
    data, options = b"p" * BLOCKS * host.size, {"app": 0x1234, "lba": 8}
    pad = host.metadata - host.kind.size
    host.run(NvmOpcode.WRITE, data, prinfo=ACT, **options)
    found, metadata = host.run(NvmOpcode.READ, prinfo=CHECK, **options)
    assert found == data
    first = host.kind.from_bytes(metadata, pad)
    last = host.kind.from_bytes(metadata, 3 * host.metadata + pad)
    assert first.apptag == 0x1234
    assert host.space.split(last.tags)[1] - host.space.split(first.tags)[1] == (
        0 if pit == 3 else 3
    )
    host.run(NvmOpcode.VERIFY, prinfo=CHECK, **options)
    host.run(NvmOpcode.WRITE, data, metadata, prinfo=CHECK, **options)
    for changed, code in (
        ({"guard": first.guard ^ 1}, M.GUARD_CHECK_ERROR),
        ({"apptag": first.apptag ^ 1}, M.APPLICATION_TAG_CHECK_ERROR),
        ({"tags": first.tags ^ 1}, M.REFERENCE_TAG_CHECK_ERROR),
    ):
        bad = bytearray(metadata)
        bad[pad : host.metadata] = bytes(first.replace(**changed))
        with refused(code):
            host.run(NvmOpcode.WRITE, data, bytes(bad), prinfo=CHECK, **options)
        # Unchecked it is stored, and found when it is read.
        host.run(NvmOpcode.WRITE, data, bytes(bad), **options)
        for opcode in (NvmOpcode.READ, NvmOpcode.VERIFY):
            with refused(code):
                host.run(opcode, prinfo=CHECK, **options)
        host.run(NvmOpcode.READ, **options)
    with refused(M.GUARD_CHECK_ERROR):
        host.run(NvmOpcode.WRITE, b"!" + data[1:], metadata, prinfo=CHECK, **options)
    # Tags that switch the checks off.
    escape = first.replace(guard=0, apptag=0xFFFF, tags=(1 << host.space.bits) - 1)
    host.run(NvmOpcode.WRITE, data, (bytes(pad) + bytes(escape)) * BLOCKS, **options)
    host.run(NvmOpcode.READ, prinfo=CHECK, **options)
    if pit == 1:
        with refused(CommandSpecificStatus.INVALID_PROTECTION_INFO):
            host.run(NvmOpcode.READ, prinfo=CHECK, reference=9, **options)


def test_the_storage_tag(ctrl: Controller) -> None:
    index = next(
        n
        for n, each in enumerate(
            IdentifyNamespaceNvm.from_bytes(ctrl.identify_page(5, nsid=1)).elbafs
        )
        if each.elbaf.sts
    )
    host = Host(ctrl, index, extended=False, pit=1)
    host.run(NvmOpcode.WRITE, prinfo=ACT, storage=77)
    host.run(NvmOpcode.READ, storage=77, stc=1)
    with refused(M.STORAGE_TAG_CHECK_ERROR):
        host.run(NvmOpcode.READ, storage=78, stc=1)


def test_a_metadata_pointer_to_nowhere(ctrl: Controller) -> None:
    Host(ctrl, formats(ctrl).index((512, 8)), extended=False)
    for opcode in (NvmOpcode.READ, NvmOpcode.WRITE):
        with refused(GenericStatus.DATA_TRANSFER_ERROR):
            ctrl.io(opcode, nsid=1, buffer=bytearray(512), mptr=0x1000)
