"""Names the C extension. All else is in pyproject.toml, where setuptools has no key for this."""

from setuptools import setup

setup(cffi_modules=["pynvme_user/_ring_build.py:ffibuilder"])
