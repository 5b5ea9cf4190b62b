"""From the bytes of an uploaded picture to a square portrait, framed as the ones that ship."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from museserve.errors import ImageError
from museserve.messages import ByteArray, FloatArray
from musetalk.faces.box import Points
from musetalk.faces.mediapipe import Face

ACCEPTED = "PNG, JPEG and WebP are accepted"
MIN_SIDE = 128
MAX_PROFILE = 2**19  # bytes of a colour profile, as it is in the file and inflated; those of cameras have a few hundred to thousands
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
JPEG_END = b"\xff\xd9"
DAMAGES = (OSError, ValueError, SyntaxError, EOFError, struct.error, IndexError, KeyError, Image.DecompressionBombError)
BACKDROP = (214, 217, 220)  # behind transparent pictures: a neutral light grey

SIGNATURES = (
    (0, b"%PDF", "a PDF document"),
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP bitmap"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (4, b"ftypavi", "an AVIF"),
    (4, b"ftyphe", "a HEIC photo"),
    (4, b"ftypmif", "a HEIC photo"),
    (4, b"ftyp", "a video or audio file (MP4)"),
    (8, b"WAVE", "a WAV sound"),
    (8, b"AVI ", "an AVI video"),
    (0, b"\x1aE\xdf\xa3", "a WebM or Matroska video"),
    (0, b"OggS", "an Ogg file"),
    (0, b"ID3", "an MP3 sound"),
    (0, b"\0\0\0\x0cjP", "a JPEG 2000"),
    (0, b"\xffO\xffQ", "a JPEG 2000"),
    (0, b"\xff\n", "a JPEG XL"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"PK\x03\x04", "a ZIP archive or office document"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an XML or SVG file"),
    (0, b"<", "an HTML or XML page"),
    (0, b"{", "a JSON text"),
    (0, b"data:", "a data URL; send the bytes that it stands for"),
    (0, b"/9j/", "written in base64; send the bytes that it stands for"),
    (0, b"iVBORw0K", "written in base64; send the bytes that it stands for"),
)

# Where the shipped portraits have their eyes, as parts of the square's side.
IRIS_SPAN = 0.15
EYES_X, EYES_Y = 0.5, 0.385
LARGEST_SPAN = 0.30  # a photo that is cut close is framed closer rather than padded
MAX_PADDED = 0.35
SHIFT = 0.06  # and this far off the middle
UPRIGHT_DEGREES = 8.0  # a smaller tilt is kept: it is how people hold their head


def read_portrait(data: bytes, max_pixels: int = 40_000_000) -> ByteArray:
    """Decode a picture whatever it is called: RGB uint8 (h, w, 3), upright, with transparency over light grey.

    Its size is read from the header and checked before anything is decoded. Of an animation the first frame is taken.

    Raises:
        ImageError: not a picture of an accepted kind, damaged, too large or too small; the message says what it is.
    """
    kind = _kind(data)
    _check_size(*_header_size(kind, data), max_pixels)
    try:
        return _decoded(_pictures_alone(data) if kind == "PNG" else data, kind, max_pixels)
    except DAMAGES as error:
        if kind == "JPEG" and "truncated" in str(error) and (picture := _without_its_end(data, max_pixels)) is not None:
            return picture
        seen = "its kind of coding cannot be read" if isinstance(error, UnidentifiedImageError) else error
        raise ImageError(f"the {kind} picture is damaged or incomplete ({seen}); {ACCEPTED}") from None


def _decoded(data: bytes, kind: str, max_pixels: int) -> ByteArray:
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        _check_size(*image.size, max_pixels)
        image.load()
        return np.ascontiguousarray(_to_rgb(_upright(image)))


def _without_its_end(jpeg: bytes, max_pixels: int) -> ByteArray | None:
    """A photo that lacks no more than the mark at its end; None where pixels are missing, which what stands there would change."""
    try:
        one, other = (_decoded(jpeg.removesuffix(b"\xff") + more + JPEG_END, "JPEG", max_pixels) for more in (b"", b"\x5a" * 64))
    except DAMAGES:
        return None
    return one if np.array_equal(one, other) else None


def _pictures_alone(png: bytes) -> bytes:
    """Without text, profiles of more than `MAX_PROFILE` and what else editors leave in: Pillow refuses more than a megabyte of it.

    Nor with what is damaged and a picture can do without.
    """
    kept, at = [png[:8]], 8
    while at + 12 <= len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        kind, end = png[at + 4 : at + 8], at + 12 + size
        wanted = kind in (b"tRNS", b"eXIf", b"gAMA", b"sRGB", b"cHRM", b"acTL", b"fcTL", b"fdAT")
        wanted = wanted or (kind == b"iCCP" and size <= MAX_PROFILE and _profile_is_small(png[at + 8 : at + 8 + size]))
        is_whole = png[end - 4 : end] == struct.pack(">I", zlib.crc32(png[at + 4 : end - 4]))
        if kind[:1].isupper() or (wanted and is_whole):
            kept.append(png[at:end])
        at = end
    return b"".join([*kept, png[at:]])


def _profile_is_small(chunk: bytes) -> bool:
    """Of a colour profile: name, zero, method, deflated bytes."""
    try:
        inflate = zlib.decompressobj()
        inflate.decompress(chunk[chunk.index(b"\0") + 2 :], MAX_PROFILE)
    except (zlib.error, ValueError):
        return False
    return inflate.eof


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says. Pillow's own way writes all other tags anew, and fails on those of an unusual type."""
    try:
        orientation = image.getexif().get(ORIENTATION)
    except (OSError, ValueError, SyntaxError, TypeError, struct.error, KeyError):
        return image
    turned = TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turned is None else image.transpose(turned)


def _kind(data: bytes) -> str:
    if not data:
        raise ImageError(f"the picture is empty (0 bytes); {ACCEPTED}")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower() if data[:1] in b"\xef \t\r\n<" else data[:64]
    for offset, signature, name in SIGNATURES:
        if start[offset : offset + len(signature)] == signature:
            raise ImageError(f"the picture is {name}; {ACCEPTED}")
    raise ImageError(f"the picture is of no known kind ({len(data):,} bytes beginning with {data[:8].hex(' ')}); {ACCEPTED}")


def _header_size(kind: str, data: bytes) -> tuple[int, int]:
    """Width and height as the header has them."""
    try:
        size = {"PNG": _png_size, "JPEG": _jpeg_size, "WEBP": _webp_size}[kind](data)
    except (struct.error, IndexError):
        size = None
    if size is None:
        raise ImageError(f"the {kind} picture is damaged or incomplete: its size cannot be read from {len(data):,} bytes; {ACCEPTED}")
    return size


def _png_size(data: bytes) -> tuple[int, int] | None:
    width, height = struct.unpack_from(">II", data, 16)
    return (width, height) if data[12:16] == b"IHDR" else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        elif marker in (0xD9, 0xDA):
            return None
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(f"the picture has {width} x {height} = {width * height / 1e6:.1f} megapixels; up to {max_pixels / 1e6:g} are accepted")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"the picture has {width} x {height} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed, and 512 x 512 or more look best")


def _to_rgb(image: Image.Image) -> ByteArray:
    if image.mode.startswith("I") or image.mode == "F":
        depth = np.asarray(image, np.float64)
        image = Image.fromarray((np.clip(depth, 0, 65_535) / 257).round().astype(np.uint8))
    if image.mode in ("LA", "PA", "La", "RGBa", "RGBA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (*BACKDROP, 255)), layer).convert("RGB")
    return np.asarray(_to_srgb(image).convert("RGB"))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Colours of a picture with a profile of its own (phones: Display P3; print: CMYK) as a screen shows them."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "CMYK"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a broken profile is ignored, as viewers do
    return image if converted is None else converted


@dataclass(frozen=True)
class Framing:
    """A square portrait. to_picture: float64 (2, 3), maps its pixels to the photo's; padded: the part that the photo lacked."""

    portrait: ByteArray
    to_picture: Points
    padded: float


def frame_portrait(rgb: ByteArray, face: Face, size: int = 1024) -> Framing:
    """Cut the square around a face that the shipped portraits show, turned upright when it tilts by more than 8 degrees.

    What the photo lacks is filled with its own blurred reflection. A square photo that is framed well already is only resized.

    Args:
        rgb: uint8 (h, w, 3); face: found in it; size: side of the result.
    Raises:
        ImageError: the photo is cut so close that too much would have to be filled in.
    """
    height, width = rgb.shape[:2]
    eyes = (face.landmarks[468, :2] + face.landmarks[473, :2]) / 2
    turn = face.roll if abs(face.roll) > UPRIGHT_DEGREES else 0.0
    if width == height and not turn and _well_framed(eyes / width, face.span_px / width):
        side, center = float(width), np.array([width / 2, height / 2])
    else:
        side, center = _square(eyes, face.span_px, turn, width, height)
    angle = np.radians(turn)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * (side / size)
    to_picture = np.column_stack([axes, center - axes @ np.array([size / 2, size / 2])])
    portrait, inside = _cut(rgb, to_picture, size)
    padded = float(1 - inside.mean())
    if padded > MAX_PADDED:
        raise ImageError(
            f"the picture is cut too close: {100 * padded:.0f} % of the portrait around the head would have to be invented, "
            f"up to {100 * MAX_PADDED:.0f} % are accepted; leave room for hair and shoulders"
        )
    return Framing(portrait, to_picture, padded)


def _well_framed(eyes: Points, span: float) -> bool:
    return bool(0.11 <= span <= 0.20 and abs(eyes[0] - EYES_X) < 0.08 and 0.28 < eyes[1] < 0.48)


def _square(eyes: Points, span_px: float, turn: float, width: int, height: int) -> tuple[float, Points]:
    """Side and middle of the square: the usual framing, closer and a little shifted where the photo ends."""
    usual = span_px / IRIS_SPAN
    if turn:
        angle = np.radians(turn)
        down = np.array([np.sin(angle), np.cos(angle)])
        return usual, np.asarray(eyes + down * (0.5 - EYES_Y) * usual)
    side = min(usual, max(min(width, height), span_px / LARGEST_SPAN))
    center = eyes + np.array([0.5 - EYES_X, 0.5 - EYES_Y]) * side
    for axis, extent in ((0, width), (1, height)):
        wanted = np.clip(center[axis], side / 2, extent - side / 2) if extent >= side else extent / 2
        center[axis] += np.clip(wanted - center[axis], -SHIFT * side, SHIFT * side)
    return float(side), np.asarray(center)


def _cut(rgb: ByteArray, to_picture: Points, size: int) -> tuple[ByteArray, FloatArray]:
    """The square and, float32 0..1, where the photo has it. Shrinks by areas first, so that nothing aliases."""
    shrink = float(np.hypot(to_picture[0, 0], to_picture[1, 0]))
    matrix = to_picture.copy()
    if shrink > 1.0:
        reduced = (max(1, round(rgb.shape[1] / shrink)), max(1, round(rgb.shape[0] / shrink)))
        factors = np.array([[reduced[0] / rgb.shape[1]], [reduced[1] / rgb.shape[0]]])
        rgb = np.asarray(cv2.resize(rgb, reduced, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix * factors
    # Pixel centres: position p of a pixel index i is i + 0.5 in both pictures.
    matrix[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5]) - 0.5
    snapped = np.round(matrix, 9)
    flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    portrait = cv2.warpAffine(rgb, snapped, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    known = np.ones(rgb.shape[:2], np.float32)
    inside = cv2.warpAffine(known, snapped, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT)
    if inside.min() < 0.5:
        soft = cv2.GaussianBlur(portrait, (0, 0), size / 40)
        away = cv2.distanceTransform((inside < 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        share = np.clip(away / (size / 32), 0, 1)[..., None]
        portrait = (portrait * (1 - share) + soft * share).round().astype(np.uint8)
    return np.asarray(portrait, np.uint8), np.asarray(inside, np.float32)
