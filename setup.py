"""Names the C extensions. All else is in pyproject.toml, where setuptools has no key for this."""

from setuptools import setup

BUILD = "pynvme_user/_ring_build.py"

setup(
    cffi_modules=[f"{BUILD}:ffibuilder", f"{BUILD}:controller"],
    # One wheel for all Pythons: cffi builds the extensions for the stable ABI.
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
