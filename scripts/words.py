"""Find words that this project has had too many of, in prose and in identifiers, and what to write.

    python scripts/words.py

Prints FILE:LINE: WORD: what to write; exit status 1 if there is any. `make lint` runs it.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

PARTS = "src scripts benchmarks reproduction tests docs README.md CONTRIBUTING.md CHANGELOG.md"
SUFFIXES = {".py", ".md", ".js", ".css", ".html"}
INSTEAD = {
    r"anew": "again, or a verb with re-: rebuilt, retries",
    r"(nobody|somebody|anybody|whoever)": "who it is: a user, a client, another process",
    r"(mend|mends|mended)": "fix",
    r"(vouch|vouches|vouched)": "untrusted",
    r"(told|(?<![.`])(?<!def )tells?(?!`))": "report, show, get an error, know",
    r"who asks": "the next request, the caller",
    r"(?<=, )too(?=[.,;:)]|$)": "also, as well",
    r"(it|model|that|file|what it) wants": "takes, needs, requires",
    r"(?<!there )(is|are|was|were) no (?!longer|more|less|better|worse)[a-z0-9]+": "is not a",
    r"(?<!there )(is|are) (?-i:none)": "is not one, is invalid",
    r"numbers of an embedding": "dimension",
    r"(?<!same )pictures?": "image, figure",
}
KEPT = re.compile(
    r"~/Pictures|(?<=[\"'/ ])Pictures(?=[\"'/])|[\"'`]picture[\"'`]|--picture|picture_memory"
)
"""Folders of users, an option's value, and a setting: digests of trained networks hold its name."""
START, END = r"(?:(?<![a-z])|(?-i:(?<=[a-z])(?=[A-Z])))", r"(?:(?![a-z])|(?-i:(?=[A-Z])))"
"""Of a word in prose or in an identifier: read_picture, PICTURES, showPicture."""
WORDS = [
    (re.compile(rf"{START}{word.replace(' ', '[ _]')}{END}", re.I), instead)
    for word, instead in INSTEAD.items()
]


def findings(top: Path, path: Path) -> Iterator[str]:
    last = ""
    for number, line in enumerate((top / path).read_text(encoding="utf-8").splitlines(), 1):
        line = KEPT.sub("", line)
        text = f"{last} {line.lstrip(' #*')}"  # for what spans two lines
        for word, instead in WORDS:
            for match in word.finditer(text):
                if match.end() > len(last):
                    yield f"{path}:{number}: {match[0].strip()!r}: {instead}"
        last = (line.split() or [""])[-1]


def main() -> int:
    top = Path(__file__).parent.parent
    files = (file for part in PARTS.split() for file in [top / part, *(top / part).rglob("*")])
    known = (f for f in files if f.suffix in SUFFIXES and f.is_file() and f != Path(__file__))
    found = [text for file in sorted(known) for text in findings(top, file.relative_to(top))]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
