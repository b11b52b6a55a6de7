"""Numbers on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lookalike.errors import LookalikeError
from reproduction.results import FORMAT, Results


def test_what_is_put_is_found_again_and_the_rest_stays(tmp_path: Path) -> None:
    results = Results(tmp_path / "new")
    results.put({"mAP": 0.5}, "set", "paper", "ours", "10")
    results.put({"mAP": 0.25}, "set", "paper", "ours", "2")
    results.put(1, "set", "collection")
    assert Results(tmp_path / "new").get("set", "paper", "ours", "10", "mAP") == 0.5
    assert list(results.seeds("set", "paper", "ours")) == [(2, {"mAP": 0.25}), (10, {"mAP": 0.5})]
    assert results.get("set", "paper", "other") is None
    assert results.get("other") is None or results.load("other") == {}
    assert json.loads((tmp_path / "new" / "set.json").read_text())["format"] == FORMAT


def test_processes_that_write_at_a_time_lose_nothing(tmp_path: Path) -> None:
    each = 60
    code = (
        "import sys; from pathlib import Path; from reproduction.results import Results\n"
        f"for i in range({each}): Results(Path(sys.argv[1])).put(i, 'set', sys.argv[2], str(i))"
    )
    rows = ("a", "b", "c")
    running = [subprocess.Popen([sys.executable, "-c", code, tmp_path, row]) for row in rows]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    for row in rows:
        expected = {str(i): i for i in range(each)}
        assert Results(tmp_path).get("set", row) == expected


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}', '{"format": 3}', "{}"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "set.json").write_text(content)
    with pytest.raises(LookalikeError, match=r"set\.json.*delete it"):
        Results(tmp_path).load("set")
