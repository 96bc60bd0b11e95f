"""palette.json: colours in both spellings, and errors that name file and material."""

import contextlib
import json
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxels.formats.palette_json import load_palette


def write(folder, document):
    path = folder / "palette.json"
    path.write_text(json.dumps(document))
    return path


def test_colours_of_both_spellings_are_read_in_order(tmp_path):
    palette = load_palette(
        write(
            tmp_path,
            {
                "Brick": "#ff8000",
                "Moss": {"top": [0.1, 0.5, 1], "side": "#000000"},
                "Ice": [0, 0, 1],
            },
        )
    )
    assert palette.names == ("Brick", "Moss", "Ice")
    np.testing.assert_allclose(palette.colors[0], np.tile([1, 128 / 255, 0], (3, 1)), atol=1e-6)
    np.testing.assert_allclose(palette.colors[1], [[0.1, 0.5, 1], [0, 0, 0], [0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(palette.colors[2, 1], [0, 0, 1])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "JSON object"),
        ({}, "at least one material"),
        ({"Air": "#ffffff"}, '"Air" is the absence'),
        ({"Brick": "#fff"}, '"Brick" needs'),
        ({"Brick": [0, 1]}, '"Brick" needs'),
        ({"Brick": [0, 1, 2]}, '"Brick" needs'),
        ({"Brick": [0, 1, True]}, '"Brick" needs'),
        ({"Brick": {"top": "#ffffff"}}, 'lacks "side"'),
        ({"Brick": {"side": "#ffffff", "left": "#ffffff"}}, 'unknown "left"'),
    ],
)
def test_what_is_no_palette_is_refused_by_name(document, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        load_palette(write(tmp_path, document))
    assert "palette.json" in str(error.value)


def test_a_missing_palette_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        load_palette(tmp_path / "none.json")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=12,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_document_is_a_palette_or_a_value_error(document):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "palette.json"
        path.write_text(json.dumps(document))
        with contextlib.suppress(ValueError):  # anything else is a fault of ours
            assert np.isfinite(load_palette(path).colors).all()
