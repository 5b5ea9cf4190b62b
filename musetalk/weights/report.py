"""Which published model files are whole, for those who want to run what needs them."""

from __future__ import annotations

import logging

from configs.models import AppConfig
from museserve.errors import WeightsError
from museserve.weights.catalogue import files_for
from museserve.weights.folder import WeightsFolder

logger = logging.getLogger(__name__)

REPORTED = ("v15", "v1", "taesd", "restore", "voices")
STAND_INS = ("dwpose/", "face-parse-bisent/")  # where files are missing without which avatars are prepared less well, and told so


def missing_files(config: AppConfig) -> list[str]:
    """One line for each purpose whose model files are not whole; DWPose and the face parser are not counted, because others stand in for them."""
    options, folder = config.lipsync.musetalk, WeightsFolder(config.weights)
    lines = []
    for purpose in (options.version, *(("taesd",) if options.decoder == "taesd" else ()), *(("restore",) if options.restore else ())):
        names = [found.file.name for found in folder.missing(purpose) if not found.file.name.startswith(STAND_INS)]
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            lines.append(f"model files are missing: {shown} (museserve weights download --for {purpose})")
    return lines


def weights_report(config: AppConfig) -> dict[str, str]:
    """For /health: whether the files of each version of MuseTalk and of the voices are there, by their sizes."""
    folder = WeightsFolder(config.weights)
    report = {}
    for purpose in REPORTED:
        try:
            missing = folder.missing(purpose)
        except WeightsError as error:
            logger.warning("%s", error)
            return dict.fromkeys(REPORTED, "cannot be read just now; the log says why")
        wanted = sum(not file.optional for file in files_for(purpose))
        report[purpose] = "present" if not missing else f"{len(missing)} of {wanted} files missing"
    return report
