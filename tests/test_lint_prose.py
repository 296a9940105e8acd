"""The prose check finds banned phrases where people read them, and nowhere else."""

from pathlib import Path

import pytest

from tests.lint_prose import check, check_repository, main, markdown_passages, python_passages, schema_passages

PATH = Path("module.py")


def python_findings(source: str) -> list[tuple[int, str]]:
    return [(finding.line, finding.phrase) for finding in check(PATH, source, python_passages)]


@pytest.mark.parametrize("phrase", [
    "under way", "mend", "whoever", "lately", "what came of", "told of", "tells of", "know no more",
    "Whoever", "mended", "mending",
])  # fmt: skip
def test_each_banned_phrase_is_found(phrase: str) -> None:
    assert python_findings(f"# It is {phrase} here.\n") == [(1, phrase)]
    assert python_findings(f'"""It is {phrase} here."""\n') == [(1, phrase)]


@pytest.mark.parametrize("word", ["recommend", "amend", "translately", "wayunder", "underway"])
def test_other_words_are_not_found(word: str) -> None:
    assert python_findings(f"# It is {word} here.\n") == []


def test_docstrings_of_modules_classes_and_functions_are_checked() -> None:
    source = '''"""lately"""

class Box:
    """lately"""

    async def open(self) -> None:
        """Open it.

        lately
        """
'''
    assert python_findings(source) == [(1, "lately"), (4, "lately"), (9, "lately")]


def test_messages_are_checked_and_names_are_not() -> None:
    assert python_findings('whoever = "lately"\n') == [(1, "lately")]
    assert python_findings('x = 1\nraise Late(f"It is {x}, " "und" \n    "er\\nway.")\n') == [(2, "under way")]


def test_a_phrase_may_extend_over_two_lines() -> None:
    assert python_findings("x = 1\n#: Requests under\n#: way.\n") == [(2, "under way")]
    assert python_findings('"""Requests under\nway."""\n') == [(1, "under way")]
    assert python_findings("# under\n\n# way\n") == []


def test_a_comment_allows_a_phrase() -> None:
    assert python_findings("# lately  # prose: allow\n") == []
    assert python_findings('"""lately"""  # prose: allow\n') == []
    assert python_findings('"""Say.\n\nlately\n"""  # prose: allow\n') == []
    assert python_findings('"""lately"""\nx = 1  # prose: allow\n') == [(1, "lately")]


def test_descriptions_of_the_schema_are_checked() -> None:
    schema = 'type Query {\n  """\n  Requests under way.\n  """\n  lately: Int\n}\n'

    findings = check(Path("schema.graphql"), schema, schema_passages)

    assert [(finding.line, finding.phrase) for finding in findings] == [(3, "under way")]


def test_markdown_is_checked_by_paragraph() -> None:
    page = "# Title\n\nIt was lately\nmended. <!-- prose: allow -->\n\nThe caller, whoever\nit is.\n"

    findings = check(Path("page.md"), page, markdown_passages)

    assert [str(finding) for finding in findings] == [
        'page.md:6: "whoever". Use: the noun: the caller, the client, the worker.'
    ]


def test_every_package_the_schema_and_all_pages_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = ["README.md", "docs/page.md", "docs/decisions/page.md", "examples/curl/run.sh", "web/src/main.jsx"]
    modules = ["models/a.py", "jobs/http/b.py", "graphql_api/schema/c.py", "bench/d.py", "tests/e.py", "examples/f.py"]
    texts = {
        **dict.fromkeys(pages, "lately\n"),
        **dict.fromkeys(modules, "# lately\n"),
        "schema.graphql": '"""lately"""',
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    for name in ("web/node_modules/package/index.js", "web/icon.svg", "tests/lint_prose.py"):
        unchecked = tmp_path / name
        unchecked.parent.mkdir(parents=True, exist_ok=True)
        unchecked.write_text('"""lately"""')

    findings = check_repository(tmp_path)

    assert {str(finding.path) for finding in findings} == set(texts)
    monkeypatch.setattr("tests.lint_prose.ROOT", tmp_path)
    assert main() == 1
    assert capsys.readouterr().out.splitlines() == [str(finding) for finding in findings]
