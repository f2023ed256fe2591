"""Pages → rules: the form of DESIGN §4, and mistakes that name page and line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpaudit import rulebook
from mpaudit.errors import UsageError
from mpaudit.model import Confidence, Example, Severity
from mpaudit.rulebook import PageError, parse

HEADER = """\
# MPA205 clip-before-unscale
```toml
category = "scaler"
severity = "error"
confidence = "likely"
fix = "none"
since = "0.1"
triggers = ['clip_grad', '\\.grad\\b']
primary = "the clip call"
torch = ">=1.6"
references = ["https://example.org"]
```
"""
PAGE = (
    HEADER
    + """
## What it does
Finds a clip of gradients
that are still scaled.

More on that.

## Why is this bad?
It shrinks the update.

## Bad
```python
clip()  # <- MPA205
```
Prose parts projects.
```python file=engine.py torch=2.3 device=cuda
import x
clip()    # <- MPA205, MPA203
```

```python file=train.py
import engine
```

```python
# ## Not a heading
clip(  # <- MPA205
)
```

## Good
```text
not python
```
```python show=possible
unscale()
clip()
```

## Known limits
### A miss
```python
other()
```
"""
)


def test_a_page() -> None:
    rule = parse("page.md", PAGE)
    assert (rule.code, rule.name, rule.category) == ("MPA205", "clip-before-unscale", "scaler")
    assert (rule.severity, rule.confidence) == (Severity.ERROR, Confidence.LIKELY)
    assert rule.triggers == ("clip_grad", r"\.grad\b")
    assert rule.summary == "Finds a clip of gradients that are still scaled."
    assert rule.why == "It shrinks the update."
    assert rule.markdown == PAGE
    assert rule.bad == (
        (Example("", "clip()\n", ((1, "MPA205"),), {}),),
        (
            Example(
                "engine.py", "import x\nclip()\n", ((2, "MPA203"), (2, "MPA205")), {"torch": "2.3", "device": "cuda"}
            ),
            Example("train.py", "import engine\n", (), {}),
        ),
        (Example("", "# ## Not a heading\nclip(\n)\n", ((2, "MPA205"),), {}),),
    )
    assert rule.good == ((Example("", "unscale()\nclip()\n", (), {"show": "possible"}),),)
    assert rule.limits == ((Example("", "other()\n", (), {}),),)
    assert rule.fixed == ()


def test_without_examples_the_rest_is_the_same() -> None:
    lean, full = parse("page.md", PAGE, examples=False), parse("page.md", PAGE)
    assert (lean.bad, lean.good, lean.limits) == ((), (), ())
    assert (lean.code, lean.triggers, lean.summary, lean.why) == (full.code, full.triggers, full.summary, full.why)


def edited(old: str, new: str) -> str:
    assert PAGE.count(old) >= 1
    return PAGE.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "page.md:1: the first line must read"),
        (edited("# MPA205 clip", "# MPA205: clip"), "page.md:1: the first line"),
        (edited("```toml", "```yaml"), "page.md:2: the title must be followed by a toml block"),
        (edited('category = "scaler"', "category = "), "page.md:3: the toml block cannot be read"),
        (edited('since = "0.1"\n', ""), "lacks 'since'"),
        (edited("since =", "sinse ="), "lacks 'since'"),
        (edited('since = "0.1"', 'since = "0.1"\nsafe = true'), "unknown key 'safe'"),
        (edited('severity = "error"', 'severity = "fatal"'), "severity: 'fatal' is not a valid Severity"),
        (edited('fix = "none"', 'fix = "maybe"'), "fix: 'maybe' is none of always, sometimes, none"),
        (edited("triggers = [", "triggers = [3, "), "triggers: 3 is not a string"),
        (edited("'clip_grad'", "'clip_(grad'"), "the trigger 'clip_(grad' is no regular expression"),
        (edited("## Good", "## Goods"), "page.md:43: unknown heading 'Goods'; did you mean 'Good'?"),
        (edited("## Known limits", "## Good"), "'Good' appears twice"),
        (edited("## Why is this bad?\nIt shrinks the update.\n", ""), "the section 'Why is this bad?' is missing"),
        (PAGE + "```python\n", "this code block is never closed"),
        (
            edited("file=engine.py torch", "file=engine.py torhc"),
            "unknown block option 'torhc=2.3'; did you mean 'torch'?",
        ),
        (edited("file=train.py", "file=engine.py"), "engine.py appears twice in one project"),
        (edited("clip(  # <- MPA205", "clip("), "a bad example has no mark for MPA205"),
        (edited("clip(  # <- MPA205", "clip(  # <- MPA203"), "a bad example has no mark for MPA205"),
        (edited("clip(  # <- MPA205", "clip(  # <- 205"), "page.md:39: a mark reads"),
        (edited("unscale()", "unscale()  # <- MPA205"), "a block under «Good» has a mark"),
        (
            edited("```text\nnot python\n```\n```python show=possible", "```text"),
            "there is no python block under «Good»",
        ),
    ],
)
def test_mistakes_name_page_and_line(text: str, message: str) -> None:
    with pytest.raises(PageError) as error:
        parse("page.md", text)
    assert str(error.value).startswith("page.md:")
    assert message in str(error.value)


def test_longer_fences_hold_shorter_ones() -> None:
    page = edited("```python show=possible\nunscale()\nclip()\n```", '````python\nx = """\n```\n"""\n````')
    assert parse("page.md", page).good[0][0].source == 'x = """\n```\n"""\n'


@given(st.text(max_size=200), st.integers(0, len(PAGE)))
def test_any_text_is_a_page_or_a_page_error(noise: str, position: int) -> None:
    for text in (noise, PAGE[:position] + noise + PAGE[position:], PAGE[:position]):
        try:
            parse("page.md", text)
        except PageError as error:
            assert str(error).startswith("page.md:")


# --------------------------------------------------------------- the real pages


def test_pages_are_named_for_what_they_hold() -> None:
    pages = Path(rulebook.__file__).parent.parent / "rules"
    names = {page.name for page in pages.glob("*.md")}
    assert names == {f"{rule.code}-{rule.name}.md" for rule in rulebook.rules().values()}
    assert list(rulebook.rules()) == sorted(rulebook.rules()) == list(rulebook.headers())


def test_find_by_code_and_name() -> None:
    rule = rulebook.find("MPA205")
    assert rule.name == "clip-before-unscale"
    assert rulebook.find("clip-before-unscale") == rulebook.find("mpa205") == rule
    with pytest.raises(
        UsageError, match="no rule is called 'clip-before-unscaled'; did you mean 'clip-before-unscale'"
    ):
        rulebook.find("clip-before-unscaled")


@pytest.mark.parametrize(
    ("selector", "prefix"),
    [
        ("MPA2", "MPA2"),
        ("mpa205", "MPA205"),
        ("clip-before-unscale", "MPA205"),
        ("MPA", "MPA"),
        ("MP", None),
        ("MPA9", None),
    ],
)
def test_expand(selector: str, prefix: str | None) -> None:
    assert rulebook.expand(selector) == prefix


def test_pages_are_found_where_nothing_is_installed(tmp_path: Path) -> None:
    """The checkout's `rules/` serves, whatever the working directory."""
    root = Path(rulebook.__file__).parent.parent
    program = (
        f"import sys; sys.path.insert(0, {str(root)!r}); sys.modules['mpaudit.rules'] = None\n"
        "from mpaudit import rulebook; print(*rulebook.headers())"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert shown.stdout.split() == list(rulebook.headers())
