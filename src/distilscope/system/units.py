"""Bytes and durations as short texts."""

from __future__ import annotations


def format_bytes(number: int | float) -> str:
    """Bytes with at least two digits: "59 B", "3.4 GB", "755 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.1f} {unit}" if number < 9.95 and unit != "B" else f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def format_duration(seconds: float) -> str:
    """A rounded duration: "0.3 s", "40 s", "6 min", "2 h 10 min", "3 d 4 h"."""
    minutes = round(seconds / 60)
    if seconds < 59.5:
        return f"{max(seconds, 0.1):.1f} s" if seconds < 0.95 else f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"
