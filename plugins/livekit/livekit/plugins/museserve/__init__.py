"""museserve, a talking avatar on your own machines, for LiveKit Agents."""

from livekit.agents import Plugin

from .api import WorkerError
from .avatar import AvatarSession
from .generator import Stats, VideoGenerator
from .log import logger
from .runner import AvatarRunner
from .tts import TTS
from .version import __version__

__all__ = ["TTS", "AvatarRunner", "AvatarSession", "Stats", "VideoGenerator", "WorkerError", "__version__"]


class MuseservePlugin(Plugin):
    def __init__(self) -> None:
        super().__init__(__name__, __version__, __package__ or __name__, logger)


Plugin.register_plugin(MuseservePlugin())
