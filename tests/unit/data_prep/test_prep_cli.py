from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.config.load import dump
from tests.unit.data_prep.test_existing import config_for, source


def test_a_dry_run_shows_no_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = {
        "type": "jsonl",
        "metadata": {"url": "url"},
        "paths": ["https://host/a.txt?signature=secret", "https://host/plain.txt", "raw/what?.txt"],
    }
    filters = [{"type": "url", "domain_files": ["http://host/list?key=secret"]}]
    config = config_for(source("web", reader=reader, filters=filters), output=str(tmp_path / "out"))
    (tmp_path / "prep.yaml").write_text(dump(config))
    monkeypatch.setattr("data_prep.estimate.print_plan", lambda config, console: console.print(config.output))
    assert main(["prep", str(tmp_path / "prep.yaml"), "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "secret" not in said.out + said.err
    for path in ("https://host/a.txt?…", "https://host/plain.txt\n", "raw/what?.txt\n", "http://host/list?…"):
        assert path in said.out
