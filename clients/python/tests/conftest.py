from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "clients" / "python")]

from tests import client_fixtures  # noqa: E402

api, url = client_fixtures.api, client_fixtures.url
