"""Whether the downloaded voices are there, told without loading them."""

from __future__ import annotations

from configs.models import SpeechConfig, WeightsConfig
from museserve.errors import ConfigError, WeightsError
from museserve.speech.engines.voices import NOT_THERE, SUPERTONIC_LANGUAGES, Natural
from museserve.weights.folder import WeightsFolder

PURPOSE = "voices"
DOWNLOAD = f"museserve weights download --for {PURPOSE}"


def find(config: SpeechConfig, weights: WeightsConfig | None) -> Natural:
    """By the sizes of the files. weights: None = nobody looks for any.

    Raises:
        ConfigError: a language that they do not speak.
    """
    languages = config.supertonic.languages
    if unknown := [tag for tag in languages if tag not in SUPERTONIC_LANGUAGES]:
        raise ConfigError(f"speech.supertonic.languages has {', '.join(unknown)}; accepted: {', '.join(SUPERTONIC_LANGUAGES)}")
    if weights is None:
        return NOT_THERE
    try:
        missing = WeightsFolder(weights).missing(PURPOSE)
    except WeightsError as error:
        return Natural(False, (), f"the natural voices cannot be looked for: {error}")
    if missing:
        return Natural(False, (), f"{len(missing)} of the natural voices' files are missing ({DOWNLOAD})")
    if not languages:
        return Natural(True, (), "the natural voices are there, and speak when they are asked for by name (speech.supertonic.languages is empty)")
    return Natural(True, languages, f"the natural voices of Supertonic 3 speak {', '.join(languages)}")
