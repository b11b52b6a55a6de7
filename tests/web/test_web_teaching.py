"""What teaching brings on the classes of Corel-1k, through the API and with the default model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from webtools import client_of

from lookalike.gallery import Gallery

COREL = Path(__file__).resolve().parents[3] / "shared" / "data" / "corel1k"
EACH, QUERIES, ROUNDS, LABELS = 30, 3, 3, 10


@pytest.mark.slow
@pytest.mark.skipif(not COREL.is_dir(), reason="extra: Corel-1k is not here")
def test_three_rounds_of_ten_answers_raise_precision_on_corel_1k(tmp_path: Path) -> None:
    home = tmp_path / "corel"
    for folder in sorted(COREL.iterdir()):
        (home / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:EACH]:
            (home / folder.name / file.name).symlink_to(file)
    gallery = Gallery.open(home)
    gallery.update()
    precision = []
    with client_of(gallery) as client:
        images = client.get("/api/images", params={"limit": 200}).json()["images"]
        images += client.get("/api/images", params={"limit": 200, "offset": 200}).json()["images"]
        assert len(images) == 10 * EACH
        queries = [image for name in range(10) for image in images[EACH * name :][:QUERIES]]
        for query in queries:
            label = query["path"].split("/")[0]
            relevant: list[int] = []
            irrelevant: list[int] = []
            row = []
            for _ in range(ROUNDS + 1):
                asked = {"id": query["id"], "relevant": relevant, "irrelevant": irrelevant}
                answer = client.post("/api/feedback", json={**asked, "k": 20, "ask": LABELS}).json()
                right = [hit["path"].split("/")[0] == label for hit in answer["hits"]]
                row.append(np.mean(right))
                for hit in answer["ask"]:
                    same = hit["path"].split("/")[0] == label
                    (relevant if same else irrelevant).append(hit["id"])
            precision.append(row)
    means = np.mean(precision, axis=0)
    # 0.923, 0.980, 1.000 and 1.000 when this was written.
    assert means.tolist() == sorted(means.tolist())
    assert means[1] > means[0] + 0.03
    assert means[3] > 0.98
