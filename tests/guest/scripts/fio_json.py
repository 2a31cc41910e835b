"""The same job file by fio on the kernel's driver, and by `nvme-user bench` on ours.

    fio_json.py ADDRESS

Begins with the controller under the kernel's nvme driver, and ends bound to vfio-pci. Prints one
JSON object with both results.
"""

import json
import subprocess
import sys
from pathlib import Path

from kernel_view import block_device

from pynvme_user.host.binding import bind

JOB = """
[global]
bs=4k
size=8m
ioengine=libaio
direct=1

[mixed]
rw=randrw
iodepth=4
runtime=1
time_based=1

[reads]
stonewall
rw=read
iodepth=8
"""


def run(*command: str) -> dict[str, object]:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout[done.stdout.index("{") :])


def main(address: str) -> None:
    job = Path("/tmp/job.fio")
    job.write_text(JOB)
    common = str(job), "--output-format=json+"
    theirs = run("fio", *common, f"--filename={block_device(address)}")
    bind(address)
    ours = run("nvme-user", "bench", *common, f"--filename=vfio:{address}", "--force")
    print(json.dumps({"theirs": theirs, "ours": ours}))


if __name__ == "__main__":
    main(*sys.argv[1:])
