"""Figures as people read them: units that fit, and no more digits than mean something."""

from __future__ import annotations

__all__ = ["bytes_text", "duration_text", "share_text"]

_THOUSAND = 1000
_FEW = 100


def bytes_text(length_bytes: float) -> str:
    """A length in the unit that leaves one to three digits before the point."""
    return _scaled(length_bytes, ("B", "kB", "MB", "GB", "TB"))


def duration_text(duration_us: float) -> str:
    """A duration given in microseconds."""
    return _scaled(duration_us, ("µs", "ms", "s"))


def share_text(value: float) -> str:
    """A quality, to four digits after the point."""
    return f"{value:.4f}"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if value < _THOUSAND:
            return _short(value, unit)
        value /= _THOUSAND
    return _short(value, units[-1])


def _short(value: float, unit: str) -> str:
    digits = 0 if value == int(value) or value >= _FEW else 1
    return f"{value:.{digits}f} {unit}"
