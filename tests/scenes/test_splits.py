import pytest

from scenes.formats.splits import read_lists, split_views

NAMES = [f"images/{index:02d}.jpg" for index in range(10)]


def split(lists, **options):
    return split_views(NAMES, lists, source="list.json", **options)


def test_every_eighth_view_is_for_testing():
    got = split({})
    assert got.test == (0, 8)
    assert got.train == (1, 2, 3, 4, 5, 6, 7, 9)
    assert got.val == ()
    assert "every 8th" in got.notes[0]
    assert split({}, holdout=5).test == (0, 5)


def test_lists_win_and_what_they_leave_open_is_filled():
    got = split({"train": NAMES[:3], "test": NAMES[5:7], "val": NAMES[7:8]})
    assert got[:3] == ((0, 1, 2), (5, 6), (7,))
    assert got.notes == ()
    assert split({"test": NAMES[:2]})[:3] == (tuple(range(2, 10)), (0, 1), ())
    assert split({"train": NAMES[:8]})[:3] == (tuple(range(8)), (8, 9), ())
    assert split({"val": NAMES[:2]})[:2] == (tuple(range(2, 10)), (0, 1))


def test_a_view_listed_twice_counts_once():
    assert split({"train": [NAMES[0], f"./{NAMES[0]}", NAMES[1]]}).train == (0, 1)


def test_val_equal_to_test_is_dropped():
    assert split({"test": NAMES[:2], "val": NAMES[:2]}).val == ()


def test_names_match_by_path_or_by_file():
    assert split({"test": ["./images/03.jpg", "04.jpg"]}).test == (3, 4)
    twice = ["a/1.jpg", "b/1.jpg", "b/2.jpg"]
    got = split_views(twice, {"test": ["b/1.jpg"]}, source="s")
    assert got.test == (1,)
    with pytest.raises(ValueError, match=r"names 1\.jpg, which is no view"):
        split_views(twice, {"test": ["1.jpg"]}, source="s")


def test_listed_images_that_are_missing_are_left_out():
    got = split({"test": ["images/99.jpg", "images/01.jpg"]}, missing=["images/99.jpg"])
    assert got.test == (1,)
    with pytest.raises(ValueError, match=r"list\.json: the test list names images/99\.jpg"):
        split({"test": ["images/99.jpg"]})


def test_a_view_in_two_splits_is_refused():
    with pytest.raises(ValueError, match=r"images/02\.jpg is listed both"):
        split({"train": NAMES[:3], "test": NAMES[2:4]})


@pytest.mark.parametrize("lists", [{"train": []}, {"test": []}, {"test": NAMES}, {"train": NAMES}])
def test_an_empty_split_is_refused(lists):
    with pytest.raises(ValueError, match="split must not be empty"):
        split(lists)


def test_holdout_must_leave_something_to_train_on():
    with pytest.raises(ValueError, match="holdout must be at least 2, got 1"):
        split({}, holdout=1)


def test_a_single_view_is_trained_and_tested_on():
    got = split_views(["a.png"], {}, source="s")
    assert got[:3] == ((0,), (0,), ())
    assert "one view only" in got.notes[0]


def test_list_files_are_read(tmp_path):
    assert read_lists(tmp_path) == {}
    (tmp_path / "train_list.txt").write_text("a.png\n\n# no\nb.png \n")
    assert read_lists(tmp_path) == {"train": ("a.png", "b.png")}
