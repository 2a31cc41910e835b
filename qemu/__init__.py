"""QEMU as a device and as a machine: the embedded emulator, and guests with real kernels."""
