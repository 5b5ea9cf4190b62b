"""Reading and framing an uploaded picture: every kind that is accepted looks right, every other is refused by name."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from museserve.errors import ImageError
from musetalk.faces.framing import BACKDROP, frame_portrait, read_portrait
from musetalk.faces.mediapipe import find_faces
from tests.musetalk.pictures import encoded, in_a_crowd, man, photo, tilted, woman


@pytest.fixture(scope="module")
def small():
    return cv2.resize(woman(), (256, 256), interpolation=cv2.INTER_AREA)


def difference(a, b):
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize(
    ("kind", "options", "allowed"),
    [
        ("PNG", {}, 0),
        ("JPEG", {"quality": 95}, 2),
        ("JPEG", {"quality": 95, "progressive": True}, 2),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 3),
    ],
)
def test_accepted_kinds_look_as_they_were(small, kind, options, allowed):
    picture = read_portrait(encoded(small, kind, **options))
    assert picture.shape == small.shape and picture.dtype == np.uint8 and picture.flags.c_contiguous
    assert difference(picture, small) <= allowed


def test_webp_of_every_header(small):
    """VP8, VP8L and VP8X keep their size in three different places."""
    for options in ({"quality": 80}, {"lossless": True}, {"quality": 80, "exif": Image.Exif()}):
        data = encoded(small[:200], "WEBP", **options)
        assert read_portrait(data).shape == (200, 256, 3)
        with pytest.raises(ImageError, match="256 x 200 = 0.1 megapixels; up to 0.01 "):
            read_portrait(data, max_pixels=10_000)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_is_turned_upright_by_its_exif(small, orientation, kind):
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # Image.Transpose of the inverse
    stored = Image.fromarray(small) if undo is None else Image.fromarray(small).transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, kind, exif=exif, **({"quality": 95} if kind != "PNG" else {}))
    assert difference(read_portrait(data), small) < 4


def test_transparency_shows_a_light_backdrop(small):
    alpha = np.full((256, 256, 1), 255, np.uint8)
    alpha[:64] = 0
    alpha[64:128] = 128
    picture = read_portrait(encoded(np.concatenate([small, alpha], 2)))
    assert difference(picture[128:], small[128:]) == 0
    assert (picture[:64] == BACKDROP).all()
    assert difference(picture[64:128], (small[64:128].astype(int) + BACKDROP) // 2) < 2


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "I;16"])
def test_grey_and_palette_pictures_become_rgb(small, mode):
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    picture = read_portrait(encoded(image))
    assert picture.shape == (256, 256, 3)
    if mode == "1":  # dithered: right from afar
        picture, grey = (np.asarray(cv2.resize(a, (16, 16), interpolation=cv2.INTER_AREA), np.uint8) for a in (picture, grey))
    assert difference(picture, np.repeat(grey[..., None], 3, 2)) < (8 if mode == "1" else 2)


def test_sixteen_bit_colour(small):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in small.astype(np.uint16) * 257)

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 256, 256, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert difference(read_portrait(data), small) < 1


def test_cmyk_jpeg_has_its_colours(small):
    """With an Adobe marker and inverted ink, as Photoshop writes it."""
    data = encoded(Image.fromarray(small).convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert difference(read_portrait(data), small) < 3


def test_a_colour_profile_is_applied(small):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert difference(read_portrait(encoded(small, icc_profile=profile)), small) < 1
    assert difference(read_portrait(encoded(small, icc_profile=b"not a profile")), small) == 0
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # does not fit RGB: ignored, as viewers do
    assert difference(read_portrait(encoded(small, icc_profile=lab)), small) == 0


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(small, kind):
    frames = [Image.fromarray(small), Image.fromarray(255 - small)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **({"lossless": True} if kind == "WEBP" else {}))
    assert difference(read_portrait(data), small) < 1


REFUSED = {
    "a PDF document": b"%PDF-1.7\n1 0 obj",
    "a GIF": b"GIF89a\x10\0\x10\0",
    "a BMP": b"BM\x36\0\0\0",
    "a TIFF": b"II*\0\x08\0\0\0",
    "a HEIC photo": b"\0\0\0\x18ftypheic\0\0\0\0",
    "an AVIF": b"\0\0\0\x1cftypavif\0\0\0\0",
    "a video or audio file": b"\0\0\0\x20ftypisom\0\0\2\0",
    "a WAV sound": b"RIFF\x24\0\0\0WAVEfmt ",
    "an SVG drawing": b"\n  <svg xmlns='http://www.w3.org/2000/svg'/>",
    "an HTML": b"<!DOCTYPE html><html>",
    "a ZIP archive": b"PK\x03\x04\x14\0",
    "a JSON text": b'{"image": 1}',
    "an MP3 sound": b"ID3\x04\0\0",
    "a data URL; send the bytes": b"data:image/png;base64,iVBORw0KGgo",
    "written in base64; send the bytes": b"/9j/4AAQSkZJRgABAQ",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_is_called_by_its_name(name):
    with pytest.raises(ImageError, match=f"^the picture is {name}.*PNG, JPEG and WebP are accepted"):
        read_portrait(REFUSED[name] + bytes(200))


@pytest.mark.parametrize("data", [b"", b"\0", b"hello", b"\x89PNG", b"RIFF", b"\xff\xd8", bytes(1000)])
def test_rubbish_is_refused(data):
    with pytest.raises(ImageError, match="empty|no known kind"):
        read_portrait(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_picture_is_refused(small, kind, part):
    data = encoded(small, kind)
    with pytest.raises(ImageError, match="damaged or incomplete"):
        read_portrait(data[: max(12, int(len(data) * part))])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_with_flipped_bytes_is_read_or_refused_but_never_crashes(small, kind):
    data = encoded(small, kind)
    rng = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(data)
        for at in rng.integers(12, len(data), 4):
            broken[at] = rng.integers(256)
        try:
            picture = read_portrait(bytes(broken), max_pixels=1_000_000)
        except ImageError:
            continue
        assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8


def png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def jpeg_header(width, height):
    return b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xff\xc2\0\x11\x08" + struct.pack(">HH", height, width) + bytes(12)


def webp_header(width, height):
    return b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little") + bytes(20)


@pytest.mark.parametrize("header", [png_header, jpeg_header, webp_header])
@pytest.mark.parametrize(("width", "height"), [(10_000, 5_000), (60_000, 60_000), (5_000, 10_001)])
def test_too_many_pixels_are_refused_from_the_header_alone(header, width, height):
    with pytest.raises(ImageError, match=rf"{width} x {height} = .* megapixels; up to 40 are accepted"):
        read_portrait(header(width, height) + bytes(100))


def test_tiny_pictures_are_refused(small):
    with pytest.raises(ImageError, match="100 x 100 pixels; at least 128 x 128"):
        read_portrait(encoded(small[:100, :100]))


def eyes_of(face, side):
    return (face.landmarks[468, :2] + face.landmarks[473, :2]) / 2 / side


def test_a_shipped_portrait_is_framed_as_it_is():
    for picture in (woman(), man()):
        framing = frame_portrait(picture, find_faces(picture)[0], 1024)
        np.testing.assert_array_equal(framing.portrait, picture)
        assert framing.padded == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: photo("astronaut.jpg"),
        lambda: in_a_crowd(woman(), 420),
        lambda: np.rot90(man()).copy(),
        lambda: np.ascontiguousarray(woman()[::-1, ::-1]),
        lambda: tilted(woman(), 25),
        lambda: woman()[:, 120:900],
        lambda: np.pad(man(), ((0, 0), (700, 0), (0, 0)), mode="edge"),
    ],
    ids=["photo", "small", "lying", "upside down", "tilted", "narrow", "far right"],
)
def test_the_face_comes_to_stand_where_the_shipped_ones_do(make):
    picture = make()
    face = find_faces(picture)[0]
    framing = frame_portrait(picture, face, 512)
    assert framing.portrait.shape == (512, 512, 3)
    framed = find_faces(framing.portrait)[0]
    x, y = eyes_of(framed, 512)
    assert abs(x - 0.5) < 0.07 and 0.31 < y < 0.46
    assert 0.13 < framed.span_px / 512 < 0.22
    assert abs(framed.roll) < 8
    back = framed.landmarks[:, :2] @ framing.to_picture[:, :2].T + framing.to_picture[:, 2]
    assert np.abs(back - face.landmarks[:, :2]).mean() < 0.03 * face.span_px
    assert framing.padded < 0.15


def test_a_slight_tilt_is_kept():
    picture = tilted(woman(), 5)
    framing = frame_portrait(picture, find_faces(picture)[0], 1024)
    np.testing.assert_array_equal(framing.portrait, picture)


def test_a_close_photo_is_framed_closer_and_filled_in_a_little():
    picture = woman()[200:760, 260:770]
    framing = frame_portrait(picture, find_faces(picture)[0], 512)
    assert framing.padded < 0.1
    assert 0.2 < find_faces(framing.portrait)[0].span_px / 512 <= 0.31


def test_a_photo_of_nothing_but_the_face_is_refused():
    picture = woman()[280:670, 345:690]
    with pytest.raises(ImageError, match="cut too close: 4. % .* leave room"):
        frame_portrait(picture, find_faces(picture)[0], 512)


def exif(orientation: int, entries: list[tuple[int, int, int, bytes]]) -> bytes:
    """A block of TIFF tags (tag, type, count, four bytes), big-endian, beside the orientation."""
    rows = sorted([(0x0112, 3, 1, struct.pack(">HH", orientation, 0)), *entries])
    tags = b"".join(struct.pack(">HHI", tag, kind, count) + value for tag, kind, count, value in rows)
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(rows)) + tags + struct.pack(">I", 0)


@pytest.mark.parametrize(
    "odd",
    [
        (0x011A, 2, 4, b"300\0"),  # a resolution as text
        (0x0131, 5, 1, struct.pack(">I", 8)),  # the software as a rational number
        (0x0128, 2, 2, b"2\0\0\0"),  # the unit of resolution as text
        (0x0132, 12, 1, struct.pack(">I", 8)),  # a date as a double
    ],
)
def test_tags_of_unusual_types_leave_a_photo_upright(small, odd):
    turned = np.ascontiguousarray(np.rot90(small, 1))  # as a camera that was held on its side stores it
    data = encoded(turned, "JPEG", quality=95, exif=exif(6, [odd]))
    assert difference(read_portrait(data), small) < 3


def png_with(data: bytes, kind: bytes, body: bytes) -> bytes:
    """`data` with a chunk of this kind behind its header."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<history/>" * 300_000),
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"much " * 1_000_000)),
        (b"tEXt", b"Comment\0" + b"much " * 500_000),
        (b"iCCP", b"profile\0\0" + zlib.compress(bytes(3_000_000))),
        (b"prVt", bytes(2_000_000)),
    ],
)
def test_long_text_and_profiles_in_a_png_are_left_out(small, kind, body):
    assert difference(read_portrait(png_with(encoded(small, "PNG"), kind, body)), small) == 0


@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_no_more_than_its_end_is_read(small, missing):
    whole = encoded(small, "JPEG", quality=95)
    assert np.array_equal(read_portrait(whole[:-missing]), read_portrait(whole))
    with pytest.raises(ImageError, match="damaged or incomplete"):
        read_portrait(whole[: -100 - missing])


@pytest.mark.parametrize("kind", [b"gAMA", b"tRNS", b"iCCP", b"pHYs"])
def test_a_damaged_chunk_that_a_png_can_do_without_is_left_out(small, kind):
    data = png_with(encoded(small, "PNG"), kind, b"\0\1\0\0")
    at = data.index(kind) + 8
    assert difference(read_portrait(data[:at] + bytes(4) + data[at + 4 :]), small) == 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_no_message_has_an_address_in_it(small, kind):
    broken = encoded(small, kind)[:40].replace(b"JFIF", b"JFIX") + jpeg_header(300, 300)[2:] if kind == "JPEG" else png_header(300, 300) + bytes(40)
    with pytest.raises(ImageError) as error:
        read_portrait(broken)
    assert "object at 0x" not in str(error.value)
