"""The mark on the pictures of a finished film that a person sees: a few words on a dark plate in a corner."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from configs.models import LabelConfig
from museserve.errors import ConfigError
from museserve.media.compositing import paste
from museserve.messages import Box, ByteArray, SpeechRequest
from museserve.speech.text.language import detect

ENGLISH, KOREAN = "AI-generated", "AI로 생성된 영상"
SHIPPED = {KOREAN: Path(__file__).parent / "label_ko.png"}  # drawn beforehand: no font with Hangul is sure to be there
EU = {
    *("EU", "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT"),
    *("LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"),
}
HEIGHT, MARGIN = 0.036, 0.03  # of letters and of the distance to the border, by the picture's height
WIDEST = 0.6  # of the picture: a longer text gets smaller letters
PLATE, OPAQUE = 40, 215  # grey of the plate, and how much of the picture it hides, of 255
DRAWN = 96  # pixels that a text is drawn at before it is scaled


@dataclass(frozen=True)
class Label:
    """text: in one line. position: as in `LabelConfig`."""

    text: str
    position: str
    font: Path | None = None

    def draw(self, frame: ByteArray) -> None:
        """On an I420 picture uint8 (h * 3 // 2, w), in place."""
        plate, mask, box = _plate(self, frame.shape[0] * 2 // 3, frame.shape[1])
        paste(frame, plate, box, mask)


def label_for(config: LabelConfig, speech: SpeechRequest | None, uploaded: bool) -> Label | None:
    """What a finished film is marked with, if it must be. uploaded: the avatar was made of somebody's portrait or clip."""
    korea = config.region == "KR"
    asked = korea or (config.region in EU and uploaded)
    if config.burn_in == "never" or (config.burn_in == "auto" and not asked):
        return None
    korean = korea or (speech is not None and detect(speech.text, speech.language) == "ko")
    return Label(config.text or (KOREAN if korean else ENGLISH), config.position, config.font)


def check_label(config: LabelConfig) -> None:
    """At start. Raises ConfigError: the text cannot be drawn."""
    if config.text:
        _drawn(config.text, config.font)


@lru_cache(maxsize=8)
def _plate(label: Label, height: int, width: int) -> tuple[ByteArray, ByteArray, Box]:
    """The plate as I420, how much of it shows, and where it lies; all sides even."""
    letters = _drawn(label.text, label.font)
    tall = max(round(height * HEIGHT), 10)
    tall = min(tall, max(int(width * WIDEST * letters.shape[0] / letters.shape[1]), 6))
    wide = max(round(letters.shape[1] * tall / letters.shape[0]), 2)
    small = cv2.resize(letters, (wide, tall), interpolation=cv2.INTER_AREA)
    gap = max(tall // 2, 2)
    h, w = tall + 2 * gap, wide + 3 * gap
    h, w = h + h % 2, min(w + w % 2, width - width % 2)
    text = np.zeros((h, w), np.uint8)
    top, left = (h - tall) // 2, max((w - wide) // 2, 0)
    text[top : top + tall, left : left + wide] = small[:, : w - left]
    luma = PLATE + text.astype(np.uint16) * (235 - PLATE) // 255
    plate = np.full((h * 3 // 2, w), 128, np.uint8)
    plate[:h] = luma
    mask = np.maximum(text, np.uint8(OPAQUE))
    margin = round(height * MARGIN) // 2 * 2
    x = margin if label.position.endswith("left") else max(width - w - margin, 0) // 2 * 2
    y = margin if label.position.startswith("top") else max(height - h - margin, 0) // 2 * 2
    return plate, mask, Box(min(x, width - w), y, w, h)


@lru_cache(maxsize=8)
def _drawn(text: str, font: Path | None) -> ByteArray:
    """The letters alone, uint8 (h, w), 255 = ink. Raises ConfigError."""
    if font is None and text in SHIPPED:
        return np.asarray(Image.open(SHIPPED[text]).convert("L"), np.uint8)
    try:
        face = ImageFont.load_default(DRAWN) if font is None else ImageFont.truetype(str(font.expanduser()), DRAWN)
    except OSError as error:
        raise ConfigError(f"label.font {font} cannot be read: {error}") from None
    if font is None and not text.isascii():
        raise ConfigError(f"label.text {text!r} has letters that need a font of your own: set label.font")
    left, top, right, bottom = face.getbbox(text)
    picture = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(picture).text((-left, -top), text, fill=255, font=face)
    return np.asarray(picture, np.uint8)
