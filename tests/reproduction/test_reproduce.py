"""`python -m reproduction run` on a small folder, as a user starts it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from running import reproduce, start
from textures import CLASSES, write_textures

pytest.importorskip("torch")
pytest.importorskip("cv2")

pytestmark = pytest.mark.slow
ROWS = ("svm", "cnn-lsh", "ours")
EACH = 7
ARGUMENTS = ("--seeds=0", "--epochs=1", "--queries-per-class=2", *(f"--row={row}" for row in ROWS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_textures(tmp_path_factory.mktemp("reproduce") / "set", EACH)


def test_tables_times_and_figures_are_made_and_then_known(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("run", "table1", "table3", "feedback", "--data", folder, "--out", out)
    done = reproduce(*command, *ARGUMENTS)
    assert done.stdout == ""
    assert f"wrote {out}/report.html" in done.stderr.splitlines()[-1]
    found = json.loads((out / "results" / "set.json").read_text())
    assert set(found["paper"]) == set(ROWS)
    for row in ROWS:
        values = found["paper"][row]["0"]
        assert values["P@20"] == 5 / 20  # all of the gallery
        assert values["mAP"] > 0.8  # the classes differ in colour
        timing = found["timing"]["rows"][row]
        assert [len(timing[what]) for what in ("search", "end to end", "cold")] == [3, 3, 3]
        assert 0 < max(timing["search"]) < min(timing["end to end"])
    about = found["timing"]["about"]
    assert (about["seed"], about["queries"], about["k"]) == (0, 2 * len(CLASSES), 20)
    assert found["feedback"]["0"]["mAP ranking"][-1] == 1.0  # all of the gallery was judged
    report = (out / "report.html").read_text()
    images = re.findall(r'src="([^"]+)"', report)
    assert len(images) >= 8
    assert all((out / image).stat().st_size > 10_000 for image in images)
    assert "http" not in report
    cell = f"{found['paper']['ours']['0']['mAP']:.4f}"
    assert f"<td>{cell}</td>" in report
    networks = {path: path.stat().st_mtime_ns for path in (out / "work").glob("set-*.pt")}
    assert len(networks) == 2
    again = reproduce("run", "table1", "--data", folder, "--out", out, *ARGUMENTS)
    assert "training" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in networks} == networks
    assert json.loads((out / "results" / "set.json").read_text()) == found


def test_each_verb_does_what_the_ones_before_it_left_undone(folder: Path, tmp_path: Path) -> None:
    few = ("--seeds=0", "--epochs=1", "--queries-per-class=2", "--row=lenet")
    command = ("table1", "--data", folder, "--out", tmp_path, *few)

    def files(pattern: str) -> list[str]:
        return [path.name for path in tmp_path.rglob(pattern)]

    reproduce("train", *command)
    assert len(files("set-lenet-seed0-*.pt")) == 1 and not files("*.npy")
    ranked = reproduce("rank", *command)
    assert "training" not in ranked.stderr
    assert len(files("set-paper-lenet-seed0-*.npy")) == 1
    reproduce("score", *command)
    found = json.loads((tmp_path / "results" / "set.json").read_text())
    assert 0 < found["paper"]["lenet"]["0"]["mAP"] <= 1
    assert not files("*.png") or files("*.png") == files("set-lenet-*.png")  # of the training
    reproduce("figures", *command)
    assert files("set-table.png")
    assert not files("report.html")
    reproduce("report", *command)
    assert "figures/set-table.png" in (tmp_path / "report.html").read_text()


def test_an_interrupted_run_leaves_a_report_of_what_is_measured(
    folder: Path, tmp_path: Path
) -> None:
    few = ("--seeds=0,1,2,3,4,5,6,7,8,9", "--queries-per-class=2", "--row=svm", "--row=sift")
    words = ("run", "table1", "--data", folder, "--out", tmp_path, *few)
    with start(*words) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("3 of 20"):  # two are measured and reported
                process.send_signal(signal.SIGINT)
                break
        process.stderr.read()
    assert process.returncode == 130
    text = (tmp_path / "report.md").read_text()
    assert "| SVM active learning [17], 4 x 20 answers |" in text
    assert (tmp_path / "report.html").read_text().endswith("</html>")
