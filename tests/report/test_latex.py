"""Tables as LaTeX."""

from __future__ import annotations

from sage_dask.report.latex import escaped, latex
from sage_dask.report.table import Table

GOLDEN = r"""% sage-dask report r --latex
% Needs \usepackage{booktabs} and \usepackage[T1]{fontenc}.

\begin{table}
  \centering
  \caption{Parts. All of them.}
  \begin{tabular}{lrl}
    \toprule
    part & share \% & why \\
    \midrule
    a\_b & 1.0 & x \\
    \quad slot & % not run
    & y \\
    \bottomrule
  \end{tabular}
\end{table}"""


def test_a_table_is_one_of_booktabs():
    """Names are escaped, sub-parts indented, and the source says of a gap why it is one."""
    rows = [("a_b", "1.0", "x"), ("  slot", None, "y")]
    table = Table("Parts", ("part", "share %", "why"), rows, words=(0, 2), note="All of them.")

    text = latex([table, Table("None", ("a",), [])], "sage-dask report r --latex")

    assert text == GOLDEN


def test_a_gap_at_the_end_of_a_row_does_not_swallow_the_row():
    """A comment ends with its line, so the row's own end stands on the next one."""
    text = latex([Table("T", ("a", "b"), [("x", None)])], "c")

    assert "    x & % not run\n    \\\\\n" in text


def test_a_negative_amount_has_a_minus():
    """Of amounts the sign is set as one; a word that begins with a hyphen keeps it."""
    assert r"    -x & $-$1.5 \\" in latex([Table("T", ("a", "b"), [("-x", "-1.5")])], "c")


def test_what_users_write_is_set_as_it_is():
    """No character of a name is a command."""
    assert escaped(r"\input{x}_$1 & 50% #2~^<|>") == (
        r"\textbackslash{}input\{x\}\_\$1 \& 50\% \#2\textasciitilde{}\textasciicircum{}"
        r"\textless{}\textbar{}\textgreater{}"
    )


def test_a_comment_stays_on_its_line():
    """A folder's name with a line break in it can not become LaTeX."""
    assert latex([], "report 'a\n\\input{x}'").splitlines()[0] == r"% report 'a \input{x}'"
