"""VFIO with the real kernel: its view of the data, isolation, claims, users, kills, removal.

Two guests: one runs the scripts on a controller that stays, one has a controller that is taken
away and comes back. What happens in them is in scripts/.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fio_keys import leaves, reasons
from guest_runs import guest_run
from guest_scripts import Outcome, command, outcome

from pynvme_user.bench.results.fio_json import ADDED, LEFT_OUT
from pynvme_user.qemu.guest.devices import NvmeDisk
from pynvme_user.qemu.guest.guest import Guest

pytestmark = pytest.mark.guest

ADDRESS = "0000:00:04.0"
PLUGGED = "0000:01:00.0"
KILLS = 20
REMOVALS = 10
MIB = 1 << 20

LARGE_NUMBERS = {"maxdna", "megcap", "nvmcap", "tnvmcap", "unvmcap"}

#: The ways of waiting, which the cycles of kills and removals take in turn.
HOW = ("", "?interrupts=msix", "?interrupts=intx")

Scripts = Callable[[str], Outcome]


def bash(*commands: str) -> list[str]:
    return ["bash", "-c", "\n".join(commands)]


@guest_run(seconds=130)
def scripts(share: Path) -> Scripts:
    """The outcomes of all scripts on a controller that stays."""
    Guest(
        bash(
            "modprobe -a vfio-pci vfio_iommu_type1",
            command(share, "kernel_view", ADDRESS),
            command(share, "fio_json", ADDRESS),
            f"nvme-user bind {ADDRESS}",
            command(share, "isolation", ADDRESS),
            command(share, "claims", f"vfio:{ADDRESS}"),
            command(share, "ordinary_user", ADDRESS, "nobody"),
            command(share, "lost_bar", ADDRESS),
            command(share, "kills", str(KILLS), *(f"vfio:{ADDRESS}{how}" for how in HOW)),
        ),
        share=share,
        timeout=1800,
    ).run()
    return lambda name: outcome(share, name)


@pytest.fixture(scope="module")
def view(scripts: Scripts) -> dict[str, Any]:
    return scripts("kernel_view").only


@pytest.fixture(scope="module")
def isolation(scripts: Scripts) -> dict[str, dict[str, Any]]:
    found = scripts("isolation")
    assert found.status == 0, found.errors
    return {line["step"]: line for line in found.lines}


# --- the kernel's view ----------------------------------------------------------------------------


def test_the_kernel_and_this_driver_read_what_the_other_wrote(view: dict[str, Any]) -> None:
    assert view["driver_after_restore"] == "nvme"
    assert view["kernel_to_ours"]
    assert view["ours_to_kernel"]
    assert view["kernel_data_kept"]


def test_fio_and_the_benchmark_have_the_same_keys(scripts: Scripts) -> None:
    """The same job file: fio on the kernel's driver, nvme-user bench on the same controller."""
    if not shutil.which("fio"):
        pytest.skip("fio is not installed: run ./bootstrap bench")
    found = scripts("fio_json").only
    theirs, ours = found["theirs"]["jobs"], found["ours"]["jobs"]
    assert [job["jobname"] for job in ours] == [job["jobname"] for job in theirs]
    for their_job, our_job in zip(theirs, ours, strict=True):
        their_keys, our_keys = dict(leaves(their_job)), dict(leaves(our_job))
        added = [key for key in our_keys if key not in their_keys]
        left_out = [key for key in their_keys if key not in our_keys]
        assert [key for key in added if not reasons(key, ADDED)] == []
        assert [key for key in left_out if not reasons(key, LEFT_OUT)] == []
        assert our_job["error"] == their_job["error"] == 0
        for direction in ("read", "write"):
            assert bool(our_job[direction]["total_ios"]) == bool(their_job[direction]["total_ios"])


@pytest.mark.parametrize("page", ["id-ctrl", "id-ns"])
def test_nvme_cli_shows_the_same_page(page: str, view: dict[str, Any]) -> None:
    if not view["kernel_pages"]:
        pytest.skip("nvme-cli is not installed: run ./bootstrap guest")
    theirs = view["kernel_pages"][page]
    for name in LARGE_NUMBERS & theirs.keys():
        theirs[name] = int(theirs[name])  # nvme-cli writes numbers of 128 bits as text
    ours = view["our_pages"][page]
    for lbaf in ours.get("lbafs", []):
        del lbaf["in_use"]  # which nvme-cli has from 2.5 on
    assert ours == theirs


# --- isolation and what is given back -------------------------------------------------------------


def test_an_unmapped_address_faults_and_harms_nothing(
    isolation: dict[str, dict[str, Any]],
) -> None:
    found = isolation["unmapped address"]
    device = ADDRESS.removeprefix("0000:")
    assert ["Write", device, found["iova"]] in found["faults"], found
    assert ["Read", device, found["iova"]] in found["faults"], found
    assert found["memory_unharmed"]
    assert not found["leaked_to_disk"]
    assert found["works_after"]


def test_buffers_are_unmapped_when_they_go(isolation: dict[str, dict[str, Any]]) -> None:
    found = isolation["buffers"]
    assert found["mapped"] >= 3
    assert found["left"] == 0
    assert found["locked"] >= 10 * 1024
    assert found["locked_left"] == 0


def test_all_mappings_used_up_is_a_clear_error(
    isolation: dict[str, dict[str, Any]], report: list[str]
) -> None:
    found = isolation["every mapping"]
    assert found["total"] == 65535
    assert found["mapped"] == found["before"]
    assert found["at_limit"] == 0
    for refusal in (found["refusal"], found["buffer_refusal"]):
        assert "one mapping more than the kernel allows: release buffers" in refusal
        assert "dma_entry_limit" in refusal
    assert found["works_at_limit"]
    assert found["after"] == found["before"]
    assert found["locked_left"] == 0
    assert found["works_after"]
    report.append(
        f"guest: {found['total']} mappings made in {found['map_seconds']} s "
        f"and undone in {found['unmap_seconds']} s"
    )


def test_close_unmaps_everything(isolation: dict[str, dict[str, Any]]) -> None:
    found = isolation["close"]
    assert found["limit"] == 65535
    assert found["available"] == found["limit"]
    before, during, unmapped = found["before"], found["during"], found["unmapped"]
    assert during["locked"] > before["locked"]
    assert during["pinned"] > before["pinned"]
    assert during["hugepages"] < before["hugepages"]
    assert unmapped["locked"] == before["locked"]
    assert unmapped["pinned"] == before["pinned"]
    assert found["after"] == before


# --- who may have it ------------------------------------------------------------------------------


def test_a_second_process_is_refused_and_told_the_holder(scripts: Scripts) -> None:
    check_claims(scripts("claims").only)


def check_claims(found: dict[str, Any]) -> None:
    assert found["other"]["holder"] == found["pid"]
    assert f"process {found['pid']} (python" in found["other"]["refused"]
    assert found["itself"]["holder"] == found["pid"]
    assert found["works"]
    assert found["freed"]["refused"] is None


def test_vfio_works_for_an_ordinary_user(scripts: Scripts) -> None:
    found = scripts("ordinary_user").only
    refused = found["root_s_node"]
    assert refused["error"] == "DeviceAccessError"
    assert f"chown $USER {found['node']}" in refused["text"]
    assert found["own_node"]["error"] is None, found["own_node"]["text"]
    assert found["own_node"]["uid"] != 0
    assert found["own_node"]["same"]


def test_too_little_memlock_names_bytes_and_remedy(scripts: Scripts) -> None:
    found = scripts("ordinary_user").only
    refused = found["little_memlock"]
    assert refused["error"] == "DmaError"
    assert f"needs {2 * MIB} bytes of locked memory" in refused["text"]
    assert f"RLIMIT_MEMLOCK is {found['little']} bytes" in refused["text"]
    assert "sudo prlimit --pid $$ --memlock=" in refused["text"]


# --- kills ----------------------------------------------------------------------------------------


def test_every_attach_after_a_kill_works(scripts: Scripts, report: list[str]) -> None:
    slowest = check_kills(scripts("kills"), KILLS)
    report.append(f"guest: {KILLS} kills over VFIO, each attach after in {slowest} s at most")


def check_kills(found: Outcome, count: int) -> float:
    """Hold the outcome of kills.py to what it should be; return the slowest attach, in seconds."""
    assert (found.status, found.errors) == (0, "")
    *cycles, end = found.lines
    assert len(cycles) == count
    for cycle in cycles:
        assert cycle["killed"]
        assert cycle["verified"]
        assert {name: cycle[name] for name in end["before"]} == end["before"]
    assert end["verified"]
    assert end["after"] == end["before"]
    return float(max(cycle["attach_seconds"] for cycle in cycles))


# --- removal --------------------------------------------------------------------------------------


def test_a_bar_that_is_taken_away_is_no_crash(scripts: Scripts) -> None:
    found = scripts("lost_bar").only
    assert [found[name] for name in ("wait", "read", "identify")] == ["removed"] * 3
    assert found["register"] == 0xFFFF_FFFF
    assert found["works_again"]


@guest_run(seconds=90)
def removals(share: Path) -> tuple[Outcome, float]:
    """What came of each removal, and the longest that one took, in seconds."""
    devices = [f"vfio:{PLUGGED}{how}" for how in HOW]
    seconds = []
    with Guest(
        bash(
            "modprobe -a vfio-pci vfio_iommu_type1",
            command(share, "hot_plug", "vfio-pci", str(REMOVALS), *devices),
        ),
        nvme=[NvmeDisk(hotplug=True, size=64 * MIB)],
        share=share,
        timeout=1800,
    ) as guest:
        for cycle in range(REMOVALS):
            seconds.append(remove_and_return(guest, cycle))
        guest.wait()
    return outcome(share, "hot_plug"), max(seconds)


def test_removals_under_io(removals: tuple[Outcome, float], report: list[str]) -> None:
    """Each request has one outcome, nothing hangs or leaks, and the device comes back."""
    found, seconds = removals
    check_removals(found, REMOVALS)
    report.append(f"guest: {REMOVALS} removals over VFIO, each let go in {seconds:.2f} s at most")


def remove_and_return(guest: Guest, cycle: int) -> float:
    """Take the device away while it is in use, add it again; return what the first took."""
    guest.wait_output(f"in use {cycle}\n", 600)
    start = time.monotonic()
    guest.unplug("nvme0")
    seconds = time.monotonic() - start
    guest.wait_output(f"gone {cycle}\n", 600)
    guest.plug("nvme0")
    return seconds


def check_removals(found: Outcome, count: int) -> None:
    assert (found.status, found.errors) == (0, "")
    assert len(found.lines) == count
    for cycle in found.lines:
        assert cycle["verified"]
        assert cycle["hung"] == []
        assert set(cycle["errors"].values()) == {"DeviceRemovedError"}, cycle["errors"]
        for way, outcomes in cycle["outcomes"].items():
            # Neither without an outcome, nor with two, nor with another one.
            assert outcomes["completed"] > 0, way
            assert outcomes["submitted"] == outcomes["completed"] + outcomes["removed"], way
            assert sum(outcomes.values()) == 2 * outcomes["submitted"], (way, outcomes)
        assert cycle["left"] == found.lines[0]["left"]
