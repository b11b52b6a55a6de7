"""Write the tables between their marks in the documents, from results/ and benchmarks/results/.

    python scripts/tables.py [--check]

A table NAME stands between <!-- table: NAME --> and <!-- end of table -->. --check writes nothing
and ends with status 1 if a document would change.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from scale import MAKERS as SCALE_MAKERS

from reproduction.results import Results
from reproduction.tables import TABLE_MAKERS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("docs/reproduction.md", "docs/feedback.md", "docs/scale.md")
MARKED = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def with_tables(text: str, results: Results) -> str:
    """The document with every marked table rebuilt. KeyError for an unknown name."""

    def table(match: re.Match[str]) -> str:
        name = match[2]
        made = SCALE_MAKERS[name]() if name in SCALE_MAKERS else TABLE_MAKERS[name](results)
        return f"{match[1]}\n{made}\n\n{match[3]}"

    return MARKED.sub(table, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    results = Results(ROOT / "results")
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        old = path.read_text(encoding="utf-8")
        new = with_tables(old, results)
        if new != old:
            stale.append(name)
            if not options.check:
                path.write_text(new, encoding="utf-8")
    if stale and options.check:
        sys.exit(f"tables differ from results/ in {', '.join(stale)}: python scripts/tables.py")


if __name__ == "__main__":
    main()
