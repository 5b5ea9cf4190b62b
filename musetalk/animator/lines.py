"""Lines traced through a picture: the cheapest way from one side to the other."""

from __future__ import annotations

import numpy as np

from musetalk.animator.anatomy import Array


def shortest_path(cost: Array, step_cost: float, steps: int) -> Array:
    """Row numbers (columns,) of the cheapest left-to-right line through `cost` (rows, columns).

    At most `steps` rows up or down a column, each at `step_cost`.
    """
    rows, columns = cost.shape
    total = cost[:, 0].copy()
    back = np.zeros((rows, columns), np.int64)
    moves = range(-steps, steps + 1)
    for column in range(1, columns):
        padded = np.pad(total, steps, constant_values=np.inf)
        options = np.stack([padded[steps + move : steps + move + rows] + step_cost * abs(move) for move in moves])
        best = options.argmin(0)
        back[:, column] = np.arange(rows) + np.array(moves)[best]
        total = options.min(0) + cost[:, column]
    path = np.empty(columns, np.int64)
    path[-1] = int(total.argmin())
    for column in range(columns - 1, 0, -1):
        path[column - 1] = back[path[column], column]
    return path
