"""Names the C extensions. All else is in pyproject.toml, where setuptools has no key for this."""

from setuptools import setup

BUILD = "pynvme_user/_ring_build.py"

setup(cffi_modules=[f"{BUILD}:ffibuilder", f"{BUILD}:controller"])
