"""What two sides of Ferry must compute or read identically.

Standard library only: a device, a server, a publisher and a simulator import the same code, so that
a percentage, a path or a manifest cannot mean two things. A name belongs here when two packages must
compute the same answer from it, or when one reads the bytes another wrote.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
