"""Virtual functions: opened beside a physical function that the kernel has, or vfio-pci has.

    virtual_functions.py ADDRESS ACCESS

The controller has SR-IOV, and the kernel's nvme driver has it. ACCESS is vfio, where vfio-pci was
loaded with enable_sriov=1, or uio. One JSON object a line, by its "step".
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kernel_view import block_device

import pynvme_user as nvme
from pynvme_user import Controller, NvmeError, doctor
from pynvme_user.host.binding import bind
from pynvme_user.host.pci import devices

TOKEN = "c0ffee00-0000-4000-8000-000000000001"
ANOTHER = "c0ffee00-0000-4000-8000-000000000002"
PCI = Path("/sys/bus/pci/devices")
DRIVERS = {"vfio": "vfio-pci", "uio": "uio_pci_generic"}
QUEUES, INTERRUPTS = 3, 2


def report(step: str, **facts: object) -> None:
    print(json.dumps({"step": step, **facts}), flush=True)


def run(*command: str) -> bytes:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def enable(address: str, count: int) -> str:
    """Enable virtual functions, as an administrator does; return the first's address."""
    path = PCI / address
    (path / "sriov_numvfs").write_text(str(count))
    return (path / "virtfn0").readlink().name if count else ""


def refusal(call: Callable[[], Controller]) -> str:
    try:
        call().close()
    except NvmeError as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def first_read(name: str) -> Controller:
    with nvme.open(name) as ctrl:
        ctrl.namespaces[1].read(0, 1)
        return ctrl


def data(letter: str, ns: nvme.Namespace) -> bytes:
    return letter.encode() * (4096 // ns.block_size * ns.block_size)


def under_the_kernel(address: str, access: str) -> None:
    """The physical function stays with the kernel: its command line brings the virtual one online.

    (Its nvme driver would try to have the virtual ones, too.)
    """
    (PCI / address / "sriov_drivers_autoprobe").write_text("0")
    virtual = enable(address, 1)
    bind(virtual, DRIVERS[access])
    name = f"{access}:{virtual}"
    offline = refusal(lambda: nvme.open(name))
    (primary,) = (path.name for path in (PCI / address / "nvme").iterdir())
    manage = ("nvme", "virt-mgmt", f"/dev/{primary}", "--cntlid=1")
    run(*manage, "--rt=0", "--act=8", f"--nr={QUEUES}")
    run(*manage, "--rt=1", "--act=8", f"--nr={INTERRUPTS}")
    run(*manage, "--act=9")
    node = block_device(address)
    with nvme.open(name) as ctrl:
        ns = ctrl.namespaces[1]
        ctrl.check_alive()  # its vendor's id reads all ones, as all of a function that is gone does
        ours = data("v", ns)
        ns.write(8, ours)
        ns.flush()
        size = ns.block_size
        kernel_reads = run("dd", f"if={node}", f"bs={size}", "skip=8", "count=8", "iflag=direct")
        subprocess.run(
            ["dd", f"of={node}", f"bs={size}", "seek=16", "oflag=direct", "status=none"],
            input=data("k", ns),
            check=True,
        )
        we_read = ns.read(16, 8)
        report(
            "kernel",
            offline=offline,
            cntlid=ctrl.identify.cntlid,
            queue_pairs=ctrl.max_queue_pairs,
            vectors=ctrl.transport.access.interrupt_vectors,
            kernel_reads=kernel_reads == ours,
            we_read=we_read == data("k", ns),
        )
    token = refusal(lambda: nvme.open(f"{name}?vf_token={TOKEN}"))
    report("no token", refused=token)
    report("intx", refused=refusal(lambda: first_read(f"{name}?interrupts=intx")))
    enable(address, 0)


def under_vfio(address: str) -> None:
    """Both functions are this program's: opened with one token."""
    bind(address)
    with nvme.open(f"{address}?vf_token={TOKEN}") as primary:
        virtual = enable(address, 2)
        deadline = time.monotonic() + 60
        while (driver := Path(PCI / virtual / "driver")).exists() is False:
            assert time.monotonic() < deadline  # the kernel gives it to vfio-pci by itself
            time.sleep(0.05)
        secondary = primary.secondary_controllers()[0]
        got = primary.bring_online(secondary.scid, queues=QUEUES, interrupts=INTERRUPTS, force=True)
        refused = {
            "none": refusal(lambda: nvme.open(virtual)),
            "another": refusal(lambda: nvme.open(f"{virtual}?vf_token={ANOTHER}")),
        }
        with nvme.open(f"{virtual}?vf_token={TOKEN}&interrupts=msix") as ctrl:
            ns = ctrl.namespaces[1]
            shared = primary.namespaces[1]
            ns.write(0, data("V", ns))
            shared.write(8, data("P", ns))
            with ctrl.queue_pair(8) as pair:
                buffer = ctrl.alloc(64 * ns.block_size)
                pair.read_many(ns, range(64), 1, buffer).check()
            report(
                "vfio",
                driver=driver.resolve().name,
                online=got.scs.onl,
                cntlid=ctrl.identify.cntlid,
                scid=secondary.scid,
                primary_reads=shared.read(0, 8) == data("V", ns),
                we_read=ns.read(8, 8) == data("P", ns),
                whole=bytes(buffer[: 16 * ns.block_size]) == data("V", ns) + data("P", ns),
                refused=refused,
            )
        report(
            "told",
            virtual=virtual,
            devices={each.address: each.physical_function for each in devices()},
            table=run("nvme-user", "list").decode(),
            doctor=[each.text for each in doctor.examine(virtual).checks if each.name == "driver"],
        )


def main(address: str, access: str) -> None:
    under_the_kernel(address, access)
    if access == "vfio":
        under_vfio(address)
        enable(address, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
