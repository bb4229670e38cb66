import hashlib
import struct
from pathlib import Path

import pytest

from data_prep.filters import language
from data_prep.filters.base import Dropped
from pipeline.config.prep.filters import LanguageFilter
from pipeline.errors import ConfigError, MissingDependencyError

TEXTS = {
    "en": "The old man looked at the sea and thought that the weather would be good for fishing on the next day.",
    "de": "Der alte Mann blickte auf das Meer und dachte, dass das Wetter am nächsten Tag gut zum Fischen sein würde.",
    "fr": "Le vieil homme regardait la mer et pensait que le temps serait bon pour la pêche le jour suivant.",
    "ru": "Старик смотрел на море и думал, что погода на следующий день будет хороша для рыбной ловли.",
    "zh": "老人望着大海，心想明天的天气一定很适合钓鱼。他收起渔网，慢慢地走回村子里去，路上遇见了几个朋友。",
}


def write_model(path: Path) -> str:
    """A fastText model that tells `the` from `der`, in the library's binary form; its checksum."""
    entries = [("</s>", 0), ("the", 0), ("der", 0), ("__label__en", 1), ("__label__de", 1)]
    inputs, outputs = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)], [(9.0, 0.0), (0.0, 9.0)]
    model = struct.pack("<ii", 793712314, 12)  # magic number and version
    model += struct.pack("<12id", 2, 5, 1, 1, 5, 1, 3, 3, 0, 0, 0, 100, 0.0)  # 2 dimensions, softmax, supervised
    model += struct.pack("<iiiqq", len(entries), 3, 2, 10, -1)
    for word, kind in entries:
        model += word.encode() + b"\0" + struct.pack("<qb", 5, kind)
    for matrix in (inputs, outputs):
        model += struct.pack("<?qq", False, len(matrix), 2) + b"".join(struct.pack("<2f", *row) for row in matrix)
    path.write_bytes(model)
    return hashlib.sha256(model).hexdigest()


@pytest.mark.parametrize("code", TEXTS)
def test_languages_are_told_apart_and_recorded(code: str) -> None:
    judge = language.build(LanguageFilter(type="language", keep=("en", "zh")))
    metadata: dict[str, str] = {}
    judged = judge(TEXTS[code], metadata)
    assert metadata == {"language": code}
    assert judged == (TEXTS[code] if code in ("en", "zh") else Dropped(code))


def test_a_large_distance_is_no_language() -> None:
    judge = language.build(LanguageFilter(type="language", keep=("en",), min_score=200))
    metadata: dict[str, str] = {}
    assert judge("qx zzq wvvk 0101 qqj", metadata) == Dropped("unknown")
    assert metadata["language"] == "unknown"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"keep": ("english",)}, r"keep has 'english', which resiliparse does not know; use af, .*unknown"),
        ({"min_score": 0.7}, r"min_score \(0.7\) is a distance for detector resiliparse; use 0 or about 200 to 1200"),
        ({"detector": "fasttext"}, r"detector fasttext needs model"),
        ({"detector": "fasttext", "model": "no/such.bin"}, r"model no/such.bin cannot be read \(No such file"),
        ({"detector": "fasttext", "min_score": 700}, r"min_score \(700.0\) must be 0 to 1 for detector fasttext"),
    ],
)
def test_what_does_not_fit_is_found_early(change: dict[str, object], sentence: str) -> None:
    config = LanguageFilter.model_validate({"type": "language", "keep": ("en",), **change})
    for find in (language.check, language.build):
        with pytest.raises(ConfigError, match=sentence):
            find(config)


def test_fasttext(tmp_path: Path) -> None:
    path = tmp_path / "small.bin"
    checksum = write_model(path)
    config = LanguageFilter(
        type="language", keep=("en",), detector="fasttext", model=str(path), model_sha256=checksum, min_score=0.9
    )
    language.check(config)
    judge = language.build(config)
    found: list[dict[str, str]] = [{}, {}, {}]
    assert judge("the the\nthe", found[0]) == "the the\nthe"
    assert judge("der der der", found[1]) == Dropped("de")
    assert judge("the der", found[2]) == Dropped("unknown")
    assert [metadata["language"] for metadata in found] == ["en", "de", "unknown"]


def test_another_model_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "small.bin"
    checksum = write_model(path)
    config = LanguageFilter(type="language", keep=("en",), detector="fasttext", model=str(path), model_sha256=checksum)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    for find in (language.check, language.build):
        with pytest.raises(
            ConfigError, match=rf"the sha256 of model .*small.bin is \w+, not model_sha256 \({checksum}\)"
        ):
            find(config)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.bin"
    path.write_bytes(b"this is no model")
    with pytest.raises(ConfigError, match="is no fastText model"):
        language.build(LanguageFilter(type="language", keep=("en",), detector="fasttext", model=str(path)))


@pytest.mark.parametrize(
    ("package", "detector", "extra"),
    [("resiliparse.parse.lang", "resiliparse", "quality"), ("fasttext", "fasttext", "fasttext")],
)
def test_a_missing_package_is_named(package: str, detector: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    config = LanguageFilter.model_validate({"type": "language", "keep": ("en",), "detector": detector, "model": "x"})
    with pytest.raises(MissingDependencyError, match=rf"pip install 'tarmac\[{extra}\]'"):
        language.check(config)
