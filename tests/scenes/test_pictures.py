import io

import numpy as np
import pytest
from PIL import Image

from scenes.formats import pictures


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def random_rgba(seed, rows=12, cols=8):
    return np.random.default_rng(seed).integers(0, 256, (rows, cols, 4)).astype(np.uint8)


def test_images_come_back_as_written(tmp_path):
    images = [random_rgba(seed) for seed in range(3)]
    paths = [save(tmp_path / f"{i}.png", image) for i, image in enumerate(images)]
    np.testing.assert_array_equal(pictures.read_images(paths, source="list"), images)
    assert pictures.image_size(paths[0]) == (8, 12)


def test_alpha_that_hides_nothing_is_dropped(tmp_path):
    opaque = random_rgba(0)
    opaque[..., 3] = 255
    path = save(tmp_path / "a.png", opaque)
    assert pictures.read_images([path], source="list").shape == (1, 12, 8, 3)
    other = save(tmp_path / "b.png", random_rgba(1))
    both = pictures.read_images([path, other], source="list")
    assert both.shape == (2, 12, 8, 4)
    rgb = save(tmp_path / "c.png", opaque[..., :3])
    mixed = pictures.read_images([rgb, other], source="list")
    assert np.all(mixed[0, ..., 3] == 255)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1"])
def test_grey_and_palette_images_become_colour(tmp_path, mode):
    image = Image.fromarray(random_rgba(2)[..., :3]).convert(mode)
    path = tmp_path / "grey.png"
    image.save(path)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(pictures.read_image(path)[..., :3], expected)


def test_downscale_averages_what_is_seen(tmp_path):
    image = random_rgba(3)
    path = save(tmp_path / "a.png", image)
    got = pictures.read_images([path], downscale=2, source="list")[0].astype(float)
    values = image.astype(float)
    alpha = values[..., 3:] / 255
    blocks = (values[..., :3] * alpha).reshape(6, 2, 4, 2, 3).mean(axis=(1, 3))
    cover = alpha.reshape(6, 2, 4, 2, 1).mean(axis=(1, 3))
    np.testing.assert_allclose(got[..., 3:] / 255, cover, atol=0.51 / 255)
    np.testing.assert_allclose(got[..., :3] * got[..., 3:] / 255, blocks, atol=1.0)


def test_colour_of_invisible_pixels_does_not_bleed(tmp_path):
    image = np.zeros((2, 2, 4), np.uint8)
    image[0, 0] = [200, 10, 60, 255]
    image[1, 1] = [0, 255, 0, 0]
    path = save(tmp_path / "a.png", image)
    got = pictures.read_images([path], downscale=2, source="list")
    np.testing.assert_array_equal(got[0, 0, 0], [200, 10, 60, 64])


@pytest.mark.parametrize("downscale", [0.5, 0, -1, float("nan"), float("inf")])
def test_downscale_never_enlarges(tmp_path, downscale):
    with pytest.raises(ValueError, match="downscale must be at least 1"):
        pictures.read_images([tmp_path / "a.png"], downscale=downscale, source="list")


def bad_file(tmp_path, kind):
    path = tmp_path / "bad.png"
    whole = io.BytesIO()
    Image.fromarray(random_rgba(4, 64, 64)).save(whole, "PNG")
    if kind == "missing":
        return path
    content = {
        "truncated": whole.getvalue()[: len(whole.getvalue()) // 2],
        "not an image": b"these are not the bytes of an image",
        "empty": b"",
        "spoiled": whole.getvalue()[:60] + b"\0" * 40 + whole.getvalue()[100:],
    }
    path.write_bytes(content[kind])
    return path


@pytest.mark.parametrize("kind", ["missing", "truncated", "not an image", "empty", "spoiled"])
def test_unreadable_images_are_named(tmp_path, kind):
    path = bad_file(tmp_path, kind)
    error = FileNotFoundError if kind == "missing" else ValueError
    for read in (
        lambda: pictures.read_images([path], source="list"),
        lambda: pictures.read_plane(path),
    ):
        with pytest.raises(error, match=r"bad\.png") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_images_of_other_sizes_are_named(tmp_path):
    first = save(tmp_path / "first.png", random_rgba(5))
    second = save(tmp_path / "second.png", random_rgba(6, rows=13))
    with pytest.raises(ValueError, match=r"second.png.*list.*first.png is 8 x 12, this one 8 x 13"):
        pictures.read_images([first, second], source="list")
    with pytest.raises(ValueError, match="list: no images"):
        pictures.read_images([], source="list")


def test_deep_colour_is_refused(tmp_path):
    path = save(tmp_path / "deep.png", np.zeros((4, 4), np.uint16))
    with pytest.raises(ValueError, match=r"deep.png: .*8 bits"):
        pictures.read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".npy", ".tiff"])
def test_planes_keep_their_depth(tmp_path, suffix):
    kind = np.uint16 if suffix == ".png" else np.float32
    plane = (np.arange(24).reshape(4, 6) * 1000).astype(kind)
    path = tmp_path / f"plane{suffix}"
    if suffix == ".npy":
        np.save(path, plane)
    else:
        save(path, plane)
    np.testing.assert_array_equal(pictures.read_plane(path), plane)


def test_a_palette_of_greys_is_read_as_greys(tmp_path):
    """Programs that make PNGs small sort the palette as they like."""
    places = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8), "L")
    for colors, expected in (
        ([255, 255, 255, 0, 0, 0, 128, 128, 128], [[255, 0], [128, 255]]),
        ([0, 0, 0, 128, 0, 0, 0, 128, 0], [[0, 1], [2, 0]]),  # labels in colour
    ):
        image = places.copy()
        image.putpalette(colors)
        image.save(tmp_path / "mask.png")
        np.testing.assert_array_equal(pictures.read_plane(tmp_path / "mask.png"), expected)


def test_planes_must_be_flat(tmp_path):
    path = tmp_path / "plane.npy"
    np.save(path, np.zeros(5))
    with pytest.raises(ValueError, match="two-dimensional"):
        pictures.read_plane(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"plane\.npy: not a readable"):
        pictures.read_plane(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.npy"):
        pictures.read_plane(tmp_path / "gone.npy")


def test_nearest_resize_takes_the_value_under_each_centre():
    plane = np.arange(16).reshape(4, 4)
    np.testing.assert_array_equal(pictures.resize_nearest(plane, 2, 2), [[5, 7], [13, 15]])
    np.testing.assert_array_equal(pictures.resize_nearest(plane, 4, 4), plane)
    doubled = pictures.resize_nearest(plane, 8, 8)
    np.testing.assert_array_equal(doubled[::2, ::2], plane)


def test_a_png_with_any_bit_turned_is_refused(tmp_path):
    """Its checksums say so; the decoder passes over them and may give other colours."""
    ramp = np.add.outer(np.arange(120), np.arange(100))[..., None] * np.array([1, 2, 3]) // 3
    path = save(tmp_path / "a.png", ramp.astype(np.uint8))
    content = path.read_bytes()
    for place in range(41, len(content) - 16):  # what is in the chunks of pixels
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.png"):
            pictures.read_image(path)
