"""The ways to a device: one file each behind the seam of :mod:`pynvme_user.access.base`."""
