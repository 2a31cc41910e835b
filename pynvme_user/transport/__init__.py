"""NVMe's transports: what the driver needs of one (base.py), and NVMe over PCIe (pcie.py)."""
