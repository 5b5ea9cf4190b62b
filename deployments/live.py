"""`reconfigure`: the live part of a replica's configuration, changed while it runs."""

from __future__ import annotations

import logging
from typing import Any

from configs.live import with_live
from configs.models import AppConfig
from museserve.errors import ConfigError

logger = logging.getLogger("ray.serve")


class LiveConfig:
    """Kept by a replica. deployment: a key of `deployments`."""

    def __init__(self, deployment: str, config: AppConfig) -> None:
        self._deployment, self._config = deployment, config
        self._started = False

    def changed(self, user_config: Any) -> AppConfig | None:
        """What the configuration is now; None when `user_config` is wrong, and all stays as it was.

        Serve calls it first as the replica starts, and would end a running one for an error: so that raises at the start
        alone, where `serve status` shows it, and later stands in the log.

        Raises:
            ConfigError: at the start.
        """
        try:
            config = with_live(self._config, self._deployment, user_config)
        except ConfigError as error:
            if not self._started:
                raise
            logger.error("refused, so that all stays as it was: %s", error)
            return None
        if self._started:
            logger.info("configured anew: %s", user_config)
        self._started = True
        logger.setLevel(config.server.log_level)  # those of the packages follow it
        return config
