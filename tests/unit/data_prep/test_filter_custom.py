import sys
from pathlib import Path

import pytest

from data_prep.filters import custom, modules
from data_prep.filters.base import Dropped
from pipeline.config.prep.filters import CustomFilter
from pipeline.errors import ConfigError, CorpusError

SOURCE = """
SHORT = 3

def long_only(text, metadata, least=5, mark=""):
    metadata["seen"] = "yes"
    return text + mark if len(text) >= least else None

def as_bytes(text, metadata):
    return text.encode()

def fails(text, metadata):
    return text[len(text)]

def numbers(text, metadata):
    metadata["length"] = len(text)
    return text

def half(text, metadata):
    return text + chr(0xD83D)

def nothing(text, metadata):
    return text and "  "

def leaves(text, metadata):
    raise SystemExit(4)

def interrupted(text, metadata):
    raise KeyboardInterrupt
"""


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_filters.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_filters", raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])


def config(function: str, **options: object) -> CustomFilter:
    return CustomFilter(type="custom", function=function, options=options)


def test_a_function_of_the_working_folder_keeps_changes_and_drops() -> None:
    judge = custom.build(config("my_filters:long_only", least=4, mark="!"))
    metadata: dict[str, str] = {}
    assert judge("long", metadata) == "long!"
    assert judge("not", metadata) == Dropped("long_only")
    assert metadata == {"seen": "yes"}


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("as_bytes", "returned bytes, not a string or None"),
        ("fails", "raised IndexError: string index out of range"),
        ("numbers", "left metadata that is not strings"),
        ("half", "returned text with half of a surrogate pair"),
        ("leaves", "raised SystemExit: 4"),
    ],
)
def test_what_goes_wrong_in_a_function_is_told(function: str, sentence: str) -> None:
    judge = custom.build(config(f"my_filters:{function}"))
    with pytest.raises(CorpusError) as caught:
        judge("Once upon a time. " * 10, {})
    assert str(caught.value) == (
        f"custom filter my_filters:{function} {sentence}, for the document that begins"
        " 'Once upon a time. Once upon a time. Once upon a time. Once u'; mend the function"
    )


def test_a_text_of_which_nothing_is_left_is_dropped() -> None:
    for text in ("text", ""):
        assert custom.build(config("my_filters:nothing"))(text, {}) == Dropped("empty")


def test_ctrl_c_in_a_function_stays_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt):
        custom.build(config("my_filters:interrupted"))("text", {})


def test_a_wrong_option_is_told() -> None:
    judge = custom.build(config("my_filters:long_only", most=4))
    with pytest.raises(CorpusError, match="unexpected keyword argument 'most'"):
        judge("text", {})


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("no_such_module:keep", "module no_such_module of function 'no_such_module:keep' cannot be imported"),
        ("my_filters.sub:keep", r"module my_filters\.sub .* cannot be imported"),
        ("my_filters:keep", "module my_filters has no function keep"),
        ("my_filters:SHORT", "module my_filters has no function SHORT"),
    ],
)
def test_a_function_that_is_not_there_is_found_early(function: str, sentence: str) -> None:
    for find in (custom.check, custom.build):
        with pytest.raises(ConfigError, match=sentence):
            find(config(function))


TREE = {
    "rules.py": "import helper_a, numpy\nfrom helper_b import limits\nfrom no_such_library import it\n",
    "helper_a.py": "def late():\n    import rules, helper_c.deep.words\n",
    "helper_b/__init__.py": "",
    "helper_b/limits.py": "from . import shared\nfrom .. import nothing\nfrom ...far import further\n",
    "helper_b/shared.py": "from .inner import *\n",
    "helper_b/inner/__init__.py": "from ..other import value as given\n",
    "helper_b/other.py": "value = 1\n",
    "helper_b/unused.py": "",
    "helper_c/__init__.py": "",
    "helper_c/deep/__init__.py": "",
    "helper_c/deep/words.py": "this is no Python",
    "unused.py": "import rules\n",
}
USED = sorted(TREE.keys() - {"helper_b/unused.py", "unused.py"})


def write_tree(folder: Path) -> None:
    for name, content in TREE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def test_what_a_module_imports_from_beside_it_tells_whether_it_changed(tmp_path: Path) -> None:
    write_tree(tmp_path)
    assert custom.inputs(config("rules:keep")) == [str(tmp_path / name) for name in USED]
    inner = ["__init__", "inner/__init__", "limits", "other", "shared"]
    assert custom.inputs(config("helper_b.limits:keep")) == [str(tmp_path / f"helper_b/{name}.py") for name in inner]
    assert "rules" not in sys.modules


def test_of_an_installed_package_only_its_own_modules_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    write_tree(site)
    monkeypatch.setattr(modules, "_LIBRARIES", (site,))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "helper_b", raising=False)
    assert custom.inputs(config("rules:keep")) == [str(site / "rules.py")]
    found = custom.inputs(config("helper_b.shared:keep"))
    assert found == [str(site / f"helper_b/{name}.py") for name in ("__init__", "inner/__init__", "other", "shared")]


def test_a_module_that_is_not_there_has_no_files() -> None:
    assert custom.inputs(config("no_such_module:keep")) == custom.inputs(config("sys:intern")) == []
