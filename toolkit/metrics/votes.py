"""What people preferred: votes between the pictures of several models."""

import math


def share(own: float, total: float) -> float:
    """Share of the votes of a case that fell on a model, 0..1; NaN where nobody voted."""
    return own / total if total else math.nan
