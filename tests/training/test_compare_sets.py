"""Comparisons on several data sets, with runs that only pretend to train."""

import dataclasses
import json

import pytest

from training import compare_flags, compare_kinds, compare_sets, run_folder
from training.compare_config import NerfComparison
from training.sampler_config import SamplerConfig

from .conftest import TINY

_BASE = NerfComparison(
    base=TINY,
    samplers=(SamplerConfig(name="uniform"), SamplerConfig(name="error_weighted")),
    num_seeds=3,
)
_GAINS = {"easy": 1.0, "hard": -2.0}


def _on(data):
    scene = dataclasses.replace(TINY.scene, data=f"synthetic:{data}")
    base = dataclasses.replace(TINY, scene=scene)
    return dataclasses.replace(_BASE, base=base), {}


class _Pretended:
    """Writes the summary of a run whose sampler gains what the data set says."""

    done = 0
    fails_after = 100

    def __init__(self, comparison):
        del comparison

    def start(self, job, out):
        if _Pretended.done == _Pretended.fails_after:
            raise KeyboardInterrupt
        _Pretended.done += 1
        data = job.scene.data.removeprefix("synthetic:")
        gain = _GAINS[data] if job.sampler.name == "error_weighted" else 0.0
        psnr = 20.0 + gain + 0.01 * job.seed * (1 + gain)
        summary = {
            "data": data,
            "rays": 1,
            "curve": [[10, 1.0, 15.0], [20, 2.0, psnr]],
            "final": {"psnr": psnr, "error_held_by_worst": {"0.01": 0.2, "1": 1.0}},
            "train_seconds": 2.0,
            "rays_per_second": 10.0,
            "device": "d",
            "versions": {},
        }
        folder = run_folder.create(out)
        run_folder.write_json(folder.summary, summary)


@pytest.fixture
def pretend(monkeypatch):
    kind = dataclasses.replace(compare_kinds.KINDS["compare nerf"], runner=_Pretended)
    monkeypatch.setitem(compare_kinds.KINDS, "compare nerf", kind)
    _Pretended.done, _Pretended.fails_after = 0, 100


def test_each_data_set_gets_its_verdict_and_one_page_shows_all(tmp_path, pretend):
    results = compare_sets.start({name: _on(name) for name in _GAINS}, tmp_path)
    assert list(results) == ["easy", "hard"]
    header, rows = compare_sets.table_rows(results)
    assert [row[0] for row in rows] == ["easy", "hard"]
    place = header.index("error_weighted, equal steps")
    assert rows[0][place].endswith("+")
    assert rows[1][place].endswith("−")
    assert "better on 1, worse on 1 of 2 data sets" in compare_sets.sentences(results)[0]
    assert json.loads((tmp_path / "results.json").read_text())["sets"] == results
    page = (tmp_path / "report.html").read_text()
    for name in _GAINS:
        assert f'href="{name}/report.html"' in page
        assert (tmp_path / name / "report.html").is_file()


def test_one_seed_wins_nothing(tmp_path, pretend):
    ones = {}
    for name in _GAINS:
        comparison, at_hand = _on(name)
        ones[name] = dataclasses.replace(comparison, num_seeds=1), at_hand
    said = compare_sets.sentences(compare_sets.start(ones, tmp_path))
    assert len(said) == 2
    assert all("one seed only" in sentence for sentence in said)


def test_stopped_comparisons_go_on_where_they_were(tmp_path, pretend):
    _Pretended.fails_after = 8
    with pytest.raises(KeyboardInterrupt):
        compare_sets.start({name: _on(name) for name in _GAINS}, tmp_path)
    _Pretended.fails_after = 100
    compare_sets.resume(tmp_path)
    assert _Pretended.done == 12
    with pytest.raises(ValueError, match="already holds comparisons"):
        compare_sets.start({name: _on(name) for name in _GAINS}, tmp_path)


def test_bad_data_is_refused_before_anything_is_done(tmp_path, pretend, monkeypatch):
    def refuse(comparison):
        if comparison.base.scene.data == "synthetic:hard":
            raise ValueError("hard: no such data")
        return _Pretended(comparison)

    kind = dataclasses.replace(compare_kinds.KINDS["compare nerf"], runner=refuse)
    monkeypatch.setitem(compare_kinds.KINDS, "compare nerf", kind)
    with pytest.raises(ValueError, match="no such data"):
        compare_sets.start({name: _on(name) for name in _GAINS}, tmp_path / "new")
    assert _Pretended.done == 0
    assert not (tmp_path / "new").exists()


def test_data_sets_are_named_by_their_last_part():
    named = compare_flags.by_name(["a/lego/", "synthetic:detail", "b c.csv"], "data")
    assert named == {"lego": "a/lego/", "detail": "synthetic:detail", "b-c.csv": "b c.csv"}
    with pytest.raises(ValueError, match="share the folder lego"):
        compare_flags.by_name(["a/lego", "b/lego/"], "data")


def test_samplers_are_labelled_and_have_options_of_their_own():
    words = ("num_steps=5", "raw:correction=0.0", "uniform:batch_size=3")
    names = compare_flags.sampler_names("uniform, raw=error_weighted,error_weighted")
    assert names == {
        "uniform": "uniform",
        "raw": "error_weighted",
        "error_weighted": "error_weighted",
    }
    shared, _ = compare_flags.split_options(names, words)
    assert shared == ("num_steps=5",)
    made = compare_flags.samplers("uniform,raw=error_weighted,error_weighted", words)
    assert [sampler.title for sampler in made] == list(names)
    assert made[1].as_dict() == {"correction": 0.0}
    assert made[2].as_dict() == {}
    for text, message in (("uniform,uniform", "twice"), ("a/b=uniform", "cannot name")):
        with pytest.raises(ValueError, match=message):
            compare_flags.sampler_names(text)
    with pytest.raises(ValueError, match="not among"):
        compare_flags.split_options(names, ("sharp:focus=2",))
