"""Tables as LaTeX: for ``booktabs``, with everything escaped that comes from users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sage_dask.report.table import INDENT, Table

# A cell that nobody measured stays empty, and its source says so; the comment ends with its line.
_NOT_RUN = "% not run\n   "

_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "#": r"\#",
        "%": r"\%",
        "_": r"\_",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "\n": " ",
    }
)


def escaped(text: str) -> str:
    """Return text that LaTeX sets as it is."""
    return text.translate(_ESCAPES)


def latex(tables: Iterable[Table], comment: str) -> str:
    """Return tables one below the other, each as a ``table`` of its own.

    Args:
        tables: Those without rows are left out.
        comment: Where the figures are from; stands above them as a comment.
    """
    said = " ".join(comment.split())
    head = [f"% {said}", r"% Needs \usepackage{booktabs} and \usepackage[T1]{fontenc}."]
    return "\n".join([*head, *("\n".join(_table(table)) for table in tables if table.rows)])


def _table(table: Table) -> Iterator[str]:
    aligned = "".join("l" if n in table.words else "r" for n in range(len(table.columns)))
    yield ""
    yield r"\begin{table}"
    yield r"  \centering"
    yield f"  \\caption{{{escaped(' '.join([table.title + '.', table.note]).strip())}}}"
    yield f"  \\begin{{tabular}}{{{aligned}}}"
    yield r"    \toprule"
    yield f"    {' & '.join(map(escaped, table.columns))} \\\\"
    yield r"    \midrule"
    for row in table.rows:
        cells = (_cell(cell, is_amount=n not in table.words) for n, cell in enumerate(row))
        yield f"    {' & '.join(cells)} \\\\"
    yield r"    \bottomrule"
    yield r"  \end{tabular}"
    yield r"\end{table}"


def _cell(cell: str | None, *, is_amount: bool) -> str:
    if cell is None:
        return _NOT_RUN
    if is_amount and cell.startswith("-"):
        # A hyphen is no minus.
        return f"$-${escaped(cell[1:])}"
    indent = r"\quad " if cell.startswith(INDENT) else ""
    return f"{indent}{escaped(cell.strip())}"
