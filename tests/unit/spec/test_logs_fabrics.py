"""Discovery's pages, and the addresses of a subsystem's management."""

from __future__ import annotations

import pytest

from pynvme_user.spec import logs

SUBNQN = "nqn.2014-08.org.nvmexpress:uuid:1"


def entry(**fields: object) -> logs.DiscoveryEntry:
    return logs.DiscoveryEntry.build(
        trtype=3,
        adrfam=1,
        subtype=2,
        treq=logs.TREQ.build(tsc=2, sqfcd=1),
        portid=1,
        cntlid=0xFFFF,
        asqsz=32,
        eflags=1,
        trsvcid="4420",
        subnqn=SUBNQN,
        traddr="127.0.0.1",
        **fields,
    )


def test_discovery() -> None:
    page = logs.DiscoveryLog.build([entry(), entry()], genctr=5, numrec=2)
    assert page.size == page.total_length == 3072
    read = logs.DiscoveryLog.from_bytes(bytes(page))
    first = read[0]
    assert (read.header.genctr, first.trsvcid, first.subnqn) == (5, "4420", SUBNQN)
    assert (first.traddr, first.treq.sqfcd, first.treq.tsc) == ("127.0.0.1", 1, 2)
    assert first.address == logs.TcpAddress.build()
    assert bytes(first)[:12] == bytes.fromhex("03 01 02 06 0100 ffff 2000 0100")
    assert any("Transport Type" in line and "TCP" in line for line in read.dump())
    # The header alone tells how much there is to read.
    header = logs.DiscoveryLog.from_bytes(bytes(page)[:1024])
    assert (header.total_length, header.incomplete) == (3072, True)


@pytest.mark.parametrize(
    ("trtype", "address"),
    [
        (1, logs.RdmaAddress.build(qptype=1, prtype=4, cms=1, pkey=0xFFFF)),
        (3, logs.TcpAddress.build(sectype=2)),
        (2, None),
    ],
)
def test_an_address_of_a_transport(trtype: int, address: object) -> None:
    tsas = bytes(256) if address is None else bytes(address)  # type: ignore[call-overload]
    made = entry(tsas=tsas).replace(trtype=trtype)
    assert made.address == address
    extended = logs.ExtendedDiscoveryEntry.from_bytes(bytes(made) + bytes(8))
    assert extended.address == address


def test_extended_discovery() -> None:
    attribute = logs.ExtendedAttribute.build(b"host", exattype=2, exatlen=4)
    assert bytes(attribute) == bytes.fromhex("0200 0400") + b"host"
    first = bytes(entry()) + bytes.fromhex("18040000 0200 0000") + bytes(attribute) * 2
    # TEL counts what is behind the attributes, too.
    second = bytes(entry()) + bytes.fromhex("0c040000 0000 0000") + b"more"
    page = bytes(logs.DiscoveryHeader.build(numrec=2, dlpf=1, tdlpl=3108)) + first + second
    read = logs.ExtendedDiscoveryLog.from_bytes(page)
    assert read.header.dlpf.extend == 1
    assert (read.size, read.total_length, read.incomplete) == (3108, 3108, False)
    assert [part.entries for part in read] == [(attribute, attribute), ()]
    assert [part.header.subnqn for part in read] == [SUBNQN, SUBNQN]
    assert len(logs.ExtendedDiscoveryLog.from_bytes(page[:-1])) == 1


def test_host_discovery() -> None:
    attribute = logs.ExtendedAttribute.build(bytes(16), exattype=1, exatlen=16)
    host = logs.HostDiscoveryEntry.build(
        [attribute], trtype=3, adrfam=2, hostnqn=SUBNQN, traddr="::1", tel=1052, numexat=1
    )
    page = logs.HostDiscoveryLog.build([host], numrec=1, hdlpf=1, thdlpl=2076)
    assert page.size == page.total_length == 2076
    assert logs.HostDiscoveryLog.from_bytes(bytes(page))[0].header.hostnqn == SUBNQN


def test_ave_discovery() -> None:
    record = logs.AveTransportRecord.build(aveadrfam=1, avetrsvcid=8009, avetraddr=bytes(16))
    ave = logs.AveDiscoveryEntry.build([record], tel=252, avenqn=SUBNQN, numatr=1)
    page = logs.AveDiscoveryLog.build([ave], numrec=1, tadlpl=1276)
    assert page.size == page.total_length == 1276
    assert logs.AveDiscoveryLog.from_bytes(bytes(page))[0][0].avetrsvcid == 8009


def test_a_pull_model_request() -> None:
    page = logs.PullModelDdcRequestLog.build(b"what", ori=1, tpdrpl=12)
    assert (bytes(page), page.total_length) == (bytes.fromhex("01000000 0c000000") + b"what", 12)
    assert logs.PullModelDdcRequestLog.from_bytes(bytes(8)).entries == b""


def test_management_addresses() -> None:
    agent = logs.ManagementAddress.build(mat=1, madrs="https://bmc.example")
    end = logs.ManagementAddress.build(mat=0xFF)
    page = logs.ManagementAddressLog.build(mads=[agent, end])
    assert bytes(page)[:8] == b"\1\0\0\0http"
    assert logs.ManagementAddressLog.from_bytes(bytes(page)).mads[0] == agent
    assert any("END_OF_LIST" in line for line in page.dump())
