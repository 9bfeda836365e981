"""Code blocks of README and docs run; those of one page share their names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_code_blocks_run(page):
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S):
        exec(compile(block, str(page), "exec"), names)


def test_shell_blocks_of_the_readme_name_files_that_exist():
    for path in re.findall(r"python (\S+\.py)", (ROOT / "README.md").read_text()):
        assert (ROOT / path).exists(), path
