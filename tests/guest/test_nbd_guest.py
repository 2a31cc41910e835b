"""A file system over NBD: the kernel's nbd client, a server on the controller of the same guest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from guest_runs import guest_run

from pynvme_user.qemu.guest.guest import Guest, GuestResult

pytestmark = pytest.mark.guest

DEVICE = "vfio:0000:00:04.0"
NEEDED = ("nbdkit", "nbd-client", "mkfs.ext4", "fsck.ext4")
FILES = 40

#: The server is ended and started anew between the two mounts, so that nothing is in a cache.
SCRIPT = f"""
set -eu
modprobe -a vfio-pci vfio_iommu_type1 nbd ext4
nvme-user bind {DEVICE.removeprefix("vfio:")}
serve() {{
    nvme-user serve nbd {DEVICE} --socket /tmp/nbd.sock "$@" &
    server=$!
    until [ -S /tmp/nbd.sock ]; do sleep 0.2; kill -0 $server; done
    nbd-client -unix /tmp/nbd.sock /dev/nbd0 -connections 2
}}
end() {{
    nbd-client -d /dev/nbd0
    kill $server
    wait $server || test $? = 143
}}
serve
mkfs.ext4 -q /dev/nbd0
mount /dev/nbd0 /mnt
for number in $(seq {FILES}); do
    head -c $((number * 9973)) /dev/urandom > /mnt/$number
done
(cd /mnt && sha256sum [0-9]*) > /tmp/sums
umount /mnt
end
serve --force
fsck.ext4 -f -n /dev/nbd0
mount -o ro /dev/nbd0 /mnt
(cd /mnt && sha256sum --quiet -c /tmp/sums && wc -l < /tmp/sums)
umount /mnt
end
echo equal
"""


@guest_run(seconds=90)
def file_system(share: Path) -> GuestResult | None:
    """Make a file system, fill it, and look at it again after a new start of the server."""
    path = "/usr/sbin:/sbin:/usr/bin:/bin"
    if not all(shutil.which(program, path=path) for program in NEEDED):
        return None
    return Guest(["bash", "-c", SCRIPT], timeout=1800).run()


def test_a_file_system_by_the_kernels_client(file_system: GuestResult | None) -> None:
    if file_system is None:
        pytest.skip(f"one of {', '.join(NEEDED)} is not installed: run ./bootstrap nbd guest")
    assert file_system.returncode == 0, file_system.output
    lines = file_system.output.splitlines()
    assert lines[-1] == "equal", file_system.output
    assert str(FILES) in lines
