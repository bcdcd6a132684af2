"""Print the n-th `sh` code block of the README: `python tests/tools/readme_command.py 2 | bash`."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def readme_command(number: int) -> str:
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[number - 1]


if __name__ == "__main__":
    sys.stdout.write(readme_command(int(sys.argv[1])))
