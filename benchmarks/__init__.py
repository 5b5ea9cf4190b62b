"""Measurements of the whole system. Libraries that bring threads of their own get one each, so that figures mean "on one core"."""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
