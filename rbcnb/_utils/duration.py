"""How long something takes, in words."""


def duration(seconds: float) -> str:
    """Seconds as a person would say them: "40 s", "12 min", "3.5 h", "9 days"."""
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.1f} {name}" if name == "h" else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} days"
