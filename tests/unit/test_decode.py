"""Two decoders, the same pixels; one bad image costs nobody else anything."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from surveys import encode

from catalogs.cutouts.decode import Problem, open_decoder
from catalogs.errors import InputError


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.arange(height) * 2, np.arange(width)) % 200
    return (smooth[..., None] + rng.integers(0, 50, (height, width, 3))).astype(np.uint8)


def as_bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


def png16(image: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(image[..., 0].astype(np.uint16) * 257).save(sink, "PNG")
    return sink.getvalue()


GOOD = {
    "jpeg": encode(picture(60, 60), "JPEG"),
    "jpeg_odd": encode(picture(61, 77), "JPEG"),
    "png": encode(picture(60, 60)),
    "grey_png": encode(picture(60, 60)[..., 0]),
    "grey_jpeg": encode(picture(60, 60)[..., 0], "JPEG"),
    "png16": png16(picture(60, 60)),
    "rgba": encode(np.dstack([picture(60, 60), np.full((60, 60), 90, np.uint8)])),
    "small": encode(picture(20, 25)),
    "tall": encode(picture(100, 31)),
}
BAD = {
    "empty": b"",
    "text": b"this is not an image",
    "truncated_jpeg": GOOD["jpeg"][: len(GOOD["jpeg"]) // 2],
    "truncated_png": GOOD["png"][: len(GOOD["png"]) // 2],
    "bomb": GOOD["png"][:16] + b"\x00\x01\x00\x00" * 2 + GOOD["png"][24:],
    "gif": b"GIF89a" + b"\0" * 50,
    # DALI's parser refuses these, and is not to be trusted afterwards.
    "png_without_end": GOOD["png"][:-12],
    "png_of_one_chunk": GOOD["png"][:33],
    "png_cut_in_header": GOOD["png"][:24],
    "png_of_no_depth": GOOD["png"][:24] + b"\x03" + GOOD["png"][25:],
    "png_with_a_huge_chunk": GOOD["png"][:33] + b"\xff\xff\xff\xf0" + GOOD["png"][37:],
    "jpeg_with_a_huge_segment": GOOD["jpeg"][:4] + b"\xff\xff" + GOOD["jpeg"][6:],
    "jpeg_with_garbage_between": GOOD["jpeg"][:20] + b"abc" + GOOD["jpeg"][20:],
}


@pytest.fixture(scope="module")
def dali():
    return open_decoder("dali", crop=40, batch=16)


@pytest.fixture(scope="module")
def reference():
    return open_decoder("reference", crop=40)


def test_both_decoders_give_the_same_pixels(dali, reference):
    files = [as_bytes(data) for data in GOOD.values()]
    ours, problems = dali.decode(files)
    oracle, none = reference.decode(files)
    assert not problems
    assert not none
    for name, a, b in zip(GOOD, ours, oracle, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_the_centre_is_kept_and_small_images_are_padded(reference):
    """Oracle: Pillow decodes a lossless image, numpy slices it."""
    pixels, _ = reference.decode([as_bytes(GOOD["png"]), as_bytes(GOOD["small"])])
    np.testing.assert_array_equal(pixels[0], picture(60, 60)[10:50, 10:50])
    np.testing.assert_array_equal(pixels[1][10:30, 7:32], picture(20, 25))
    assert pixels[1][:10].max() == 0


def test_bad_images_are_named_and_leave_their_neighbours_alone(dali):
    good = [as_bytes(data) for data in GOOD.values()]
    clean, _ = dali.decode(good)
    mixed = [*good[:3], *(as_bytes(data) for data in BAD.values()), *good[3:]]
    pixels, problems = dali.decode(mixed)
    assert sorted(problems) == list(range(3, 3 + len(BAD)))
    assert problems[3] == Problem("decode_error", "empty file")
    kept = [i for i in range(len(mixed)) if i not in problems]
    np.testing.assert_array_equal(pixels[kept], clean)
    assert not pixels[sorted(problems)].any()
    again, _ = dali.decode(good)
    np.testing.assert_array_equal(again, clean)


def test_both_decoders_refuse_the_same_images(dali, reference):
    files = [as_bytes(data) for data in BAD.values()]
    assert set(dali.decode(files)[1]) == set(reference.decode(files)[1]) == set(range(len(files)))


def test_bad_images_in_many_batches_hurt_nobody():
    """Some of them spoilt DALI's memory: soon good images were refused, or the process died."""
    dali = open_decoder("dali", crop=40)
    kinds = ("JPEG", "PNG")
    good = [as_bytes(encode(picture(60, 60, seed), kinds[seed % 2])) for seed in range(40)]
    clean, _ = dali.decode(good)
    for round_ in range(10):
        for name, bad in BAD.items():
            at = round_ % len(good)
            # Copies, whose memory is another one's afterwards.
            files = [data.copy() for data in (*good[:at], as_bytes(bad), *good[at:])]
            pixels, problems = dali.decode(files)
            assert list(problems) == [at], name
            np.testing.assert_array_equal(np.delete(pixels, at, axis=0), clean)


def damaged(seed: int) -> dict[str, bytes]:
    """One image with each kind of damage to what it stores, at places of the seed's choice."""
    rng = np.random.default_rng(seed)
    found = {}
    for kind in ("JPEG", "PNG"):
        data = encode(picture(60, 60, seed), kind)
        start = data.index(b"\xff\xda" if kind == "JPEG" else b"IDAT") + 12
        at = int(rng.integers(start, len(data) - 40))
        flipped = data[at] ^ (1 << int(rng.integers(8)))
        found |= {
            f"{kind} cut": data[:at],
            f"{kind} cut, and ended": data[:at] + b"\xff\xd9",
            f"{kind} with a bit flipped": data[:at] + bytes([flipped]) + data[at + 1 :],
            f"{kind} with zeros": data[:at] + bytes(32) + data[at + 32 :],
            f"{kind} without a part": data[:at] + data[at + 9 :],
            f"{kind} with more in it": data[:at] + rng.bytes(9) + data[at:],
        }
    return found


@pytest.mark.parametrize("name", ["dali", "reference"])
def test_an_image_has_the_same_status_and_pixels_whatever_its_neighbours(name):
    """Alone, among good ones, and beside every kind of damage; DALI tolerates some of them."""
    decoder = open_decoder(name, crop=40, batch=16)
    good = [as_bytes(data) for data in GOOD.values()]
    alone = {}
    for seed in range(4):
        images = {kind: as_bytes(data) for kind, data in damaged(seed).items()}
        for kind, image in images.items():
            pixels, problems = decoder.decode([image])
            alone[seed, kind] = problems.get(0)
            neighbours = [good, *([other, *good] for other in images.values())]
            for others in neighbours:
                mixed, found = decoder.decode([*others, image])
                assert found.get(len(others)) == problems.get(0), kind
                np.testing.assert_array_equal(mixed[-1], pixels[0], err_msg=kind)
    assert None in alone.values()  # of both kinds, or this test would be easily passed
    assert len(set(alone.values())) > 1


@pytest.mark.parametrize("orientation", [2, 3, 6])
def test_pixels_stay_as_they_are_stored(dali, reference, orientation):
    """A mirrored galaxy would wind the other way."""
    exif = Image.Exif()
    exif[0x112] = orientation
    sink = io.BytesIO()
    Image.fromarray(picture(60, 60)).save(sink, "JPEG", exif=exif)
    files = [as_bytes(sink.getvalue())]
    np.testing.assert_array_equal(dali.decode(files)[0], reference.decode(files)[0])


@pytest.mark.parametrize("name", BAD)
def test_reasons_are_the_same_at_every_run(reference, name):
    twice = [reference.decode([as_bytes(BAD[name])])[1][0].reason for _ in range(2)]
    assert twice[0] == twice[1]
    assert " at 0x" not in twice[0]


def test_fill_bytes_and_bytes_after_the_end_are_no_damage(dali, reference):
    files = [
        as_bytes(GOOD["jpeg"][:2] + b"\xff\xff" + GOOD["jpeg"][2:]),
        as_bytes(GOOD["jpeg"] + b"after"),
        as_bytes(GOOD["png"] + b"after"),
    ]
    ours, problems = dali.decode(files)
    assert not problems
    np.testing.assert_array_equal(ours, reference.decode(files)[0])


def test_more_images_than_a_batch(dali, reference):
    files = [as_bytes(encode(picture(40, 40, seed))) for seed in range(40)]
    np.testing.assert_array_equal(dali.decode(files)[0], reference.decode(files)[0])


@pytest.mark.shared
def test_real_galaxies_and_a_real_truncated_one(dali, reference, shared_data):
    paths = sorted((shared_data / "stripe/images").glob("stripe_038[12]*.jpg"))
    files = [as_bytes(path.read_bytes()) for path in paths]
    ours, problems = dali.decode(files)
    oracle, named = reference.decode(files)
    np.testing.assert_array_equal(ours, oracle)
    assert (
        [paths[i].name for i in problems] == ["stripe_03820.jpg"] == [paths[i].name for i in named]
    )


def test_unknown_decoders_and_crops_are_refused():
    with pytest.raises(InputError, match="'magic'"):
        open_decoder("magic", 10)
    with pytest.raises(InputError, match="crop 0"):
        open_decoder("dali", 0)


RAW = {
    "square": (10, 10),
    "odd": (11, 9),
    "tall": (16, 4),
    "small": (3, 5),
    "exact": (6, 6),
}


def raw_cutout(height: int, width: int, dtype: str, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(height * 100 + width)
    return (rng.random((height, width, channels)) * 250).astype(dtype)


def centre(image: np.ndarray, crop: int) -> np.ndarray:
    """Oracle: numpy.pad to at least the crop, then the middle."""
    for axis in (0, 1):
        missing = max(crop - image.shape[axis], 0)
        width = [(0, 0)] * 3
        width[axis] = (missing // 2, missing - missing // 2)
        image = np.pad(image, width)
        start = (image.shape[axis] - crop) // 2
        image = np.take(image, range(start, start + crop), axis)
    return image


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_raw_pixels_are_cropped_and_padded_and_nothing_else(dtype):
    decoder = open_decoder("raw", 6, channels=2, dtype=dtype)
    images = [raw_cutout(*size, dtype) for size in RAW.values()]
    pixels, problems = decoder.decode(images)
    assert not problems
    assert pixels.dtype == dtype
    for name, image, got in zip(RAW, images, pixels, strict=True):
        np.testing.assert_array_equal(got, centre(image, 6), err_msg=name)


def test_raw_cutouts_of_one_size_need_no_loop():
    decoder = open_decoder("raw", 6, channels=2, dtype="uint16")
    stack = np.stack([raw_cutout(10, 11, "uint16") + i for i in range(5)])
    np.testing.assert_array_equal(decoder.decode(stack)[0], decoder.decode(list(stack))[0])
    assert decoder.decode(stack[:0])[0].shape == (0, 6, 6, 2)


def test_raw_samples_that_are_no_numbers_are_bad_pixels():
    decoder = open_decoder("raw", 6, channels=2, dtype="float32")
    stack = np.stack([raw_cutout(8, 8, "float32") for _ in range(4)])
    stack[1, 4, 4, 1] = np.nan
    stack[3, 3:5, 3, 0] = np.inf
    pixels, problems = decoder.decode(stack)
    assert problems == {
        1: Problem("bad_pixels", "1 samples are not finite numbers"),
        3: Problem("bad_pixels", "2 samples are not finite numbers"),
    }
    assert not pixels[[1, 3]].any()
    np.testing.assert_array_equal(pixels[0], centre(stack[0], 6))
    _, problems = decoder.decode([stack[0], np.zeros((0, 0, 2), np.float32)])
    assert problems == {1: Problem("decode_error", "empty image")}
