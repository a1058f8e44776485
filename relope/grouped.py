"""Image groups of a table of samples: what is drawn, cut and counted together."""

import polars as pl


def group_names(samples: pl.DataFrame) -> pl.Series:
    """Return ``[N]`` groups by name; a sample without one stands for itself.

    Args:
        samples: with columns ``group`` and ``id``.
    """
    return samples.select(pl.coalesce("group", "id").cast(pl.String).alias("group"))["group"]
