"""The plugin for pytest, as a project finds it that has the package installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = "pytester"

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"
HEADING = "## With pytest\n"


def run(pytester: pytest.Pytester, text: str, *options: str, **outcomes: int) -> pytest.RunResult:
    pytester.makepyfile(text)
    result = pytester.runpytest_subprocess(*options)
    result.assert_outcomes(**outcomes)
    return result


def test_the_page_s_example(pytester: pytest.Pytester) -> None:
    section = PAGE.read_text().split(HEADING)[1].partition("\n## ")[0]
    (example,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    run(pytester, example, passed=4)


def test_who_wants_no_device_imports_no_driver(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            print("has", sorted(name for name in sys.modules if name.startswith("pynvme_user")))
            print("cffi", "_cffi_backend" in sys.modules)
        """
    )
    result = run(pytester, "def test_sum():\n    assert 1 + 1 == 2\n", "-s", passed=1)
    ours = [
        "pynvme_user",
        "pynvme_user.errors",
        "pynvme_user.testing",
        "pynvme_user.testing.plugin",
    ]
    result.stdout.fnmatch_lines_random(["cffi False"])
    assert f"has {ours}" in result.outlines


def test_each_test_has_a_device_of_its_own(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import pytest

        seen = []

        @pytest.mark.parametrize("time", range(2))
        def test_it_is_new(nvme_namespace, time):
            assert not any(nvme_namespace.read(0, 1))
            nvme_namespace.write(0, b"x" * nvme_namespace.block_size)
            seen.append(nvme_namespace.controller)

        def test_they_are_closed():
            assert [ctrl.closed for ctrl in seen] == [True, True]
            assert seen[0] is not seen[1]

        @pytest.mark.parametrize(
            ("nvme_device_name", "size"),
            [("soft:?logical_block_size=512", 512), ("soft:?logical_block_size=4096", 4096)],
        )
        def test_on_one_of_its_own(nvme_namespace, size):
            assert nvme_namespace.block_size == size
        """,
        passed=5,
    )


def test_the_controller_is_that_of_the_soft_device(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import pynvme_user as nvme
        import pytest
        from pynvme_user.testing import faults

        def test_a_fault(nvme_namespace, soft_device):
            with soft_device.order(faults.status(0x281), nth=2) as rule:
                nvme_namespace.read(0, 1)
                with pytest.raises(nvme.NvmeStatusError):
                    nvme_namespace.read(0, 1)
                assert rule.acted == 1

        def test_opened_by_the_test(soft_device):
            with nvme.open(soft_device, timeout=1) as ctrl:
                assert ctrl.timeout == 1

        def test_left_alone(soft_device):
            pass
        """,
        passed=3,
    )


def test_the_option_names_the_device(pytester: pytest.Pytester) -> None:
    text = """
        def test_size(nvme_namespace):
            assert nvme_namespace.block_count * nvme_namespace.block_size == 3 << 20
        """
    run(pytester, text, "--nvme-device=soft:?size=3M", passed=1)
    run(pytester, text, failed=1)


def test_faults_are_of_the_software_controller_alone(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        "def test_a_fault(soft_device):\n    assert False\n",
        *("--nvme-device=qemu:", "-rs"),
        skipped=1,
    )
    result.stdout.fnmatch_lines(["*--nvme-device is qemu:: it runs where that is left out*"])


def test_a_device_that_cannot_be_opened_is_one_sentence(pytester: pytest.Pytester) -> None:
    said = {
        "nonsense:": "'nonsense:'",
        "soft:?nonsense=1": "nonsense is not an option",
        "0000:ff:1f.7": "0000:ff:1f.7",
    }
    result = run(
        pytester,
        f"""
        import pytest

        @pytest.mark.parametrize("nvme_device_name", {list(said)})
        def test_it(nvme_controller):
            assert False
        """,
        "--tb=long",
        errors=len(said),
    )
    errors = result.stdout.str().partition("= ERRORS =")[2].partition("= short test summary")[0]
    parts = re.split(r"^_+ ERROR .* _+$", errors, flags=re.MULTILINE)[1:]
    for says, part in zip(said.values(), parts, strict=True):
        (line,) = filter(None, part.split("=====")[0].splitlines())
        assert says in line


def test_a_device_without_namespaces(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def nvme_controller(nvme_controller):
            (nsid,) = nvme_controller.namespaces
            nvme_controller.detach_namespace(nsid)
            return nvme_controller
        """
    )
    result = run(
        pytester,
        "def test_it(nvme_namespace):\n    assert False\n",
        "--nvme-device=soft:?commands=all",
        errors=1,
    )
    result.stdout.fnmatch_lines(["*has no active namespace: attach one*"])
