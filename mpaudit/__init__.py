"""mpaudit audits mixed-precision training in PyTorch."""

__version__ = "0.1.0"
