"""What docs/scale.md gives a new user to type, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from fakes import write_photos
from rays import NETWORK, free_port

pytestmark = pytest.mark.slow  # they start Ray

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
RUN_SECONDS = 480


def test_trying_it_on_one_machine_works_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (text,) = re.findall(r"<!-- tested: try it -->\n(.*?)<!-- end of test -->", PAGE, re.DOTALL)
    script = re.sub(r"^    ", "", text, flags=re.MULTILINE)
    assert script.count("6399") == 3 and "6379" not in script
    script = script.replace("6399", str(free_port())).replace("127.0.0.", f"{NETWORK}.")
    script = script.replace("serve ray://photos", "serve ray://photos --port 0")
    photos = write_photos(tmp_path / "PHOTOS", 40)
    (tmp_path / "query.jpg").write_bytes(photos[7].read_bytes())
    with tempfile.TemporaryDirectory(prefix="ray-") as temporary:  # a socket's name is short
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RAY_")
        }
        environment |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LOOKALIKE_CACHE": str(tmp_path / "cache"),
            "RAY_TMPDIR": temporary,
            "OMP_NUM_THREADS": "1",
        }
        # The jobs of the script end with it, also if a line fails.
        line = ["bash", "-euc", f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"]
        done = subprocess.run(
            line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS
        )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "40 images embedded in 3 chunks" in done.stdout
    assert "ray://photos: 2 shards x 2 replicas of" in done.stdout
    assert done.stdout.count(f"shard 1 replica 0: {NETWORK}.") == 1
    assert re.search(r"^1\.000 +0/256 .*PHOTOS/b/007\.png$", done.stdout, re.MULTILINE)
    assert "40 images (no change)" in done.stdout
    assert "stopped ray://photos" in done.stdout
    assert "http://127.0.0.1:" in (tmp_path / "serve.log").read_text()
