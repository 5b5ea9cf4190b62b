"""museserve, a talking avatar on your own machines, for Pipecat."""

from pipecat_museserve.service import MuseserveVideoService
from pipecat_museserve.talking import Stats

__version__ = "0.1.0"
__all__ = ["MuseserveVideoService", "Stats"]
