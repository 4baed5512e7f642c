"""The constants equal those of the official package, except for prose."""

import stat
from pathlib import Path

import pytest
from medmnist import info as theirs

from medmnist_hf.errors import MedMNISTError
from medmnist_hf.official import info as ours


def test_constants_are_the_official_ones() -> None:
    assert ours.__version__ == theirs.__version__
    assert ours.HOMEPAGE == theirs.HOMEPAGE
    assert ours.DEFAULT_ROOT == theirs.DEFAULT_ROOT and type(ours.DEFAULT_ROOT) is str


def test_facts_are_the_official_ones_in_their_order() -> None:
    assert list(ours.INFO) == list(theirs.INFO)
    for flag, facts in theirs.INFO.items():
        mine = ours.INFO[flag]
        assert list(mine) == list(facts)
        assert {key: type(value) for key, value in mine.items()} == {key: type(value) for key, value in facts.items()}
        assert mine | {"description": ""} == facts | {"description": ""}
        assert list(mine["label"].items()) == list(facts["label"].items())
        assert list(mine["n_samples"].items()) == list(facts["n_samples"].items())
        assert mine["description"] != facts["description"]


def test_the_default_root_is_created_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "DEFAULT_ROOT", str(tmp_path / "home" / ".medmnist"))
    assert ours.get_default_root() == str(tmp_path / "home" / ".medmnist")
    assert stat.S_ISDIR(Path(ours.get_default_root()).stat().st_mode)
    (tmp_path / "file").touch()
    monkeypatch.setattr(ours, "DEFAULT_ROOT", str(tmp_path / "file" / ".medmnist"))
    with pytest.raises(RuntimeError, match="pass root=, another folder") as caught:
        ours.get_default_root()
    assert isinstance(caught.value, MedMNISTError)
