"""Traces of I/O as text: what each line of them means, and what no line is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pynvme_user.bench.jobs import iolog, words
from pynvme_user.bench.jobs.builder import JobBuilder
from pynvme_user.bench.jobs.job import Job, clones
from pynvme_user.bench.jobs.terms import JobError
from pynvme_user.bench.jobs.words import Words
from pynvme_user.workload.direction import Direction

READ, WRITE, TRIM, FLUSH = range(4)
Q, D = ord("Q"), ord("D")
NOTHING: frozenset[int] = frozenset()


def entries(path: Path, action: int = Q, skip: frozenset[int] = NOTHING) -> list[tuple[int, ...]]:
    """(direction, offset, bytes, nanoseconds, line) of each I/O."""
    return [
        tuple(int(one[name]) for name in ("direction", "offset", "bytes", "ns", "line"))
        for made in iolog.read(str(path), skip, action)
        for one in made
    ]


def written(folder: Path, *lines: str) -> Path:
    path = folder / "trace"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


V2 = "fio version 2 iolog"
V3 = "fio version 3 iolog"
BLKPARSE = (
    "  8,0    3        1     0.000000000   697  A   W 223490 + 8 <- (8,1) 223482",
    "  8,0    3        2     0.000001000   697  Q  WS 223490 + 8 [kjournald]",
    "  8,0    3        3     0.000001500   697  P   N [kjournald]",
    "  8,0    3        4     1.500000002   697  D  WS 223490 + 8 [kjournald]",
    "  8,0   11        5     1.600000000     0  C  WS 223490 + 8 [0]",
    "259,0    1        6     2.000000000   700  Q  RA 16 + 256 [a b c]",
    "259,0    1        7     2.500000000   700  Q   D 0 + 2048 [fstrim]",
    "259,0    1        8     3.000000000   700  Q FWS [sync]",
    "259,0    1        9     3.000000001   700  Q FWFS 32 + 8 [jbd2]",
    "CPU3 (8,0):",
    " Reads Queued:           1,      128KiB\t Writes Queued:           2,        8KiB",
    "Total (8,0):",
)


def test_version_3(tmp_path: Path) -> None:
    path = written(
        tmp_path, V3, "0 /dev/nvme0n1 add", "0 /dev/nvme0n1 open", "7 /dev/nvme0n1 read 4096 512",
        "1000000 /dev/nvme0n1 write 18446744073709547520 8192".replace("18446744073709547520", "0"),
        "", "1000001 /dev/nvme0n1 trim 8192 4096", "1000002\t/dev/nvme0n1  sync 8192 0",
        "1000003 /dev/nvme0n1 datasync 0 0", "1000004 /dev/nvme0n1 close",
    )  # fmt: skip
    assert entries(path) == [
        (READ, 4096, 512, 7_000, 4),
        (WRITE, 0, 8192, 1_000_000_000, 5),
        (TRIM, 8192, 4096, 1_000_001_000, 7),
        (FLUSH, 0, 0, 1_000_002_000, 8),
        (FLUSH, 0, 0, 1_000_003_000, 9),
    ]
    assert [one[0] for one in entries(path, skip=frozenset({READ, FLUSH}))] == [WRITE, TRIM]
    found = iolog.trace(str(path), NOTHING)
    assert (found.ios, found.bytes, found.first_ns) == (5, 512 + 8192 + 4096, 7_000)
    assert found.sizes == ((512, 512), (8192, 8192), (4096, 4096))
    assert found.directions == set(Direction)


def test_version_2_waits_from_the_last_wait_on(tmp_path: Path) -> None:
    path = written(
        tmp_path, V2, "f add", "f open", "f read 0 4096", "f wait 1500 0", "f write 4096 4096",
        "f wait 100", "f wait 400 0", "f sync 0 0", "f close",
    )  # fmt: skip
    assert entries(path) == [
        (READ, 0, 4096, 0, 4),
        (WRITE, 4096, 4096, 1_500_000, 6),
        (FLUSH, 0, 0, 2_000_000, 9),
    ]


def test_what_blkparse_prints(tmp_path: Path) -> None:
    path = written(tmp_path, *BLKPARSE)
    assert entries(path) == [
        (WRITE, 223490 * 512, 4096, 1_000, 2),
        (READ, 16 * 512, 256 * 512, 2_000_000_000, 6),
        (TRIM, 0, 1 << 20, 2_500_000_000, 7),
        (FLUSH, 0, 0, 3_000_000_000, 8),
        (FLUSH, 0, 0, 3_000_000_001, 9),
        (WRITE, 32 * 512, 4096, 3_000_000_001, 9),
    ]
    assert iolog.trace(str(path), NOTHING).action == Q
    issued = written(
        tmp_path, *(line for line in BLKPARSE if "  Q " not in line and " Q " not in line)
    )
    assert iolog.trace(str(issued), NOTHING).action == D
    assert entries(issued, D) == [(WRITE, 223490 * 512, 4096, 1_500_000_002, 3)]


@pytest.mark.parametrize("size", [7, 64, 1 << 20])
@pytest.mark.parametrize("lines", [BLKPARSE, (V3, *(f"{t} f read {t} 512" for t in range(50)))])
def test_pieces_of_a_file_are_one_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, lines: tuple[str, ...]
) -> None:
    path = written(tmp_path, *lines)
    whole = entries(path)
    monkeypatch.setattr(words, "PIECE", size)
    assert entries(path) == whole
    path.write_text(path.read_text().rstrip("\n"))
    assert entries(path) == whole


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((V3, "0 f reed 0 512"), "line 2: '0 f reed 0 512' is not 'TIME FILE ACTION"),
        ((V3, "0 f add", "", "0 f read 0"), "line 4: '0 f read 0' has not the words of"),
        ((V3, "0 f read 0 512 9"), "line 2: '0 f read 0 512 9' has not the words of"),
        ((V3, "0 f wait 0 0"), "line 2: '0 f wait 0 0' is not"),
        ((V3, "x f read 0 512"), "line 2: 'x f read 0 512' does not begin with a time"),
        ((V3, "0 f read -1 512"), "line 2: '0 f read -1 512' has no offset in bytes"),
        ((V3, f"0 f read {10**19} 512"), "has no offset in bytes"),
        ((V3, "0 f write 0 4k"), "line 2: '0 f write 0 4k' has no length in bytes"),
        ((V3, "0 f trim 0 0"), "line 2: '0 f trim 0 0' moves nothing"),
        ((V3, "0 f read 0 512", V3), "line 3: 'fio version 3 iolog' begins another log"),
        ((V2, "0 f read 0 512"), "line 2: '0 f read 0 512' is not 'FILE ACTION"),
        ((V2, "f \x1b[31m"), "line 2: 'f "),
        (("fio version 4 iolog",), "line 1: 'fio version 4 iolog' begins neither"),
        (("",), "line 1: '' begins neither"),
        ((), "begins neither"),
        ((V3, "0 f add"), "has no I/O to replay"),
        ((BLKPARSE[1], "8,0 nonsense"), "line 2: '8,0 nonsense' is no event of blkparse's"),
        (("8,0 3 1 0.000000001 9 Q W 8 + [x]",), "line 1: '8,0 3 1 0.000000001 9 Q W 8 + [x]' has"),
        (("8,0 3 1 0,000000001 9 Q W 8 + 8 [x]",), "is no event of blkparse's"),
        ((BLKPARSE[0],), "has no I/O to replay"),
        (("\x1f\x8b",), "is compressed: unpack it"),
        (("\x07tae",), "is blktrace's binary form: give what `blkparse -i` prints"),
    ],
)  # fmt: skip
def test_bad_lines_have_one_sentence(tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    path = tmp_path / "trace"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("latin-1"))
    with pytest.raises(JobError) as error:
        iolog.trace(str(path), NOTHING)
    text = str(error.value)
    assert text.startswith(str(path))
    assert said in text
    assert "\n" not in text
    assert "\x1b" not in text


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="No such file or directory"):
        iolog.trace(str(tmp_path / "none"), NOTHING)
    (tmp_path / "long").write_text(f"{V3}\n" + "x" * (words.PIECE + 1))
    with pytest.raises(JobError, match="a line of more than 64 KiB"):
        iolog.trace(str(tmp_path / "long"), NOTHING)


def test_words_of_odd_text() -> None:
    for text in (b"", b"\n", b"\n\n", b"  \n \n", b"a"):
        made = Words(text)
        assert made.counts.sum() == len(text.split())
        assert made.lines == text.count(b"\n") + (not text.endswith(b"\n"))
    made = Words(b"one\n  two  three\n\nfour")
    assert made.counts.tolist() == [1, 2, 0, 1]
    assert [made.line(number) for number in range(4)] == ["one", "two  three", "", "four"]


# --- the job -------------------------------------------------------------------------------------


def made_job(*options: tuple[str, str]) -> tuple[Job, list[str]]:
    return JobBuilder([("filename", "qemu:"), *options]).job("replayed")


def test_a_job_is_what_its_trace_has(tmp_path: Path) -> None:
    path = written(tmp_path, V3, "0 f read 0 512", "1 f write 0 8192", "2 f trim 0 4096")
    job, notes = made_job(("read_iolog", str(path)), ("rw", "randread"), ("bs", "1m"))
    assert job.directions == set(Direction)
    assert job.destructive
    assert job.rw == "rw"
    assert (job.smallest_block, job.largest_block) == (512, 8192)
    assert notes == ["read_iolog= says what to do: rw, bs without effect"]
    reads, _ = made_job(("read_iolog", str(path)), ("replay_skip", "write,trim"))
    assert not reads.destructive
    assert reads.rw == "read"
    moved, _ = JobBuilder([("read_iolog", str(path)), ("replay_redirect", "qemu:")]).job("x")
    assert moved.filenames == ("qemu:",)


def test_parts_write_logs_of_their_own() -> None:
    job, _ = made_job(("write_iolog", "log"))
    assert [part.write_iolog for part in clones([job])] == ["log"]
    several, _ = made_job(("write_iolog", "log"), ("numjobs", "2"))
    assert [part.write_iolog for part in clones([job, several])] == ["log", "log.2", "log.3"]


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("replay_skip", "read,flush", "'flush' is none of read, write, trim, sync"),
        ("replay_redirect", "vfio-user:/other", "replay_redirect= and filename= both name"),
        ("replay_align", "3000", "replay_align=3000 is no power of 2"),
        ("replay_scale", "0", "replay_scale is at least 1"),
        ("replay_time_scale", "0", "replay_time_scale is at least 1"),
        ("queues", "2", "read_iolog does not go together with queues"),
        ("verify", "crc32c", "read_iolog does not go together with verify"),
        ("zonemode", "zbd", "read_iolog does not go together with zonemode"),
        ("io_size", "1m", "read_iolog does not go together with io_size"),
        ("rate_iops", "100", "a trace has its own times"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, option: str, text: str, said: str) -> None:
    path = written(tmp_path, V3, "0 f write 0 4096")
    with pytest.raises(JobError, match=said):
        made_job(("read_iolog", str(path)), (option, text))


def test_what_fio_writes_is_read(tmp_path: Path) -> None:
    if not shutil.which("fio"):
        pytest.skip("fio is not installed: ./bootstrap bench")
    path = tmp_path / "log"
    subprocess.run(
        [
            *("fio", "--name=w", "--ioengine=null", "--rw=randrw", "--bs=4k", "--size=1m"),
            *("--filename=/dev/none", "--fsync=4", f"--write_iolog={path}"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    found = entries(path)
    moved = [one for one in found if one[0] != FLUSH]
    assert len(moved) == 256
    assert {one[1] for one in moved} == set(range(0, 1 << 20, 4096))
    assert FLUSH in {one[0] for one in found}
