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
    command = ("run", "table1", "table3", "feedback", "--data", folder, "--out", tmp_path)
    done = reproduce(*command, *ARGUMENTS)
    assert done.stdout == ""
    assert f"wrote {tmp_path}/report.html" in done.stderr.splitlines()[-1]
    found = json.loads((tmp_path / "results" / "set.json").read_text())
    assert set(found["paper"]) == set(found["timing"]["rows"]) == set(ROWS)
    for row in ROWS:
        values, times = found["paper"][row]["0"], found["timing"]["rows"][row]
        assert values["P@20"] == 5 / 20  # all of the gallery
        assert values["mAP"] > 0.8  # the classes differ in colour
        assert [len(times[what]) for what in ("search", "end to end", "cold")] == [3, 3, 3]
        assert 0 < max(times["search"]) < min(times["end to end"])
    about = found["timing"]["about"]
    assert (about["seed"], about["queries"], about["k"]) == (0, 2 * len(CLASSES), 20)
    assert found["feedback"]["0"]["mAP ranking"][-1] == 1.0  # all of the gallery was judged
    report = (tmp_path / "report.html").read_text()
    assert all((tmp_path / image).exists() for image in re.findall(r'src="([^"]+)"', report))
    assert "http" not in report
    assert f"<td>{found['paper']['ours']['0']['mAP']:.4f}</td>" in report
    again = reproduce("run", "table1", "--data", folder, "--out", tmp_path, *ARGUMENTS)
    assert "training" not in again.stderr
    assert json.loads((tmp_path / "results" / "set.json").read_text()) == found


def test_each_verb_does_what_the_ones_before_it_left_undone(folder: Path, tmp_path: Path) -> None:
    few = ("--quick", "--queries-per-class=2", "--row=lenet")
    files = {
        "train": "work/set-lenet-seed0-*.pt",
        "rank": "**/set-paper-lenet-seed0-*.npy",
        "figures": "figures/set-table.png",
        "report": "report.html",
    }
    done, scored = list[str](), False
    for verb in ("train", "rank", "score", "figures", "report"):
        said = reproduce(verb, "table1", "--data", folder, "--out", tmp_path, *few).stderr
        done.append(verb)
        assert verb == "train" or "training" not in said
        drawn = len(list(tmp_path.glob("figures/*.png")))
        assert verb != "figures" or said.startswith((f"{drawn} figure of", f"{drawn} figures of"))
        assert [name for name in files if list(tmp_path.glob(files[name]))] == [
            name for name in done if name in files
        ]
        found = json.loads((tmp_path / "results" / "set.json").read_text())
        scored = scored or verb == "score"
        assert ("paper" in found) == scored
    assert 0 < found["paper"]["lenet"]["0"]["mAP"] <= 1
    report = (tmp_path / "report.html").read_text()
    assert "figures/set-table.png" in report and "A quick run" in report


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
