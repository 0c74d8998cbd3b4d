"""The Markdown pages of reports: texts of users are shown as they are."""

from pathlib import Path

from producers.reports import render


def test_markup_in_a_cell_is_escaped_and_control_characters_are_replaced() -> None:
    cells = ["<b>x</b>", "a|b\nc", "`d` ![e](http://f)", "\x1b[31mred", "p1_a#2"]
    assert render.markdown_table(["question"], [[cell] for cell in cells]).split("\n") == [
        "| question |",
        "| --- |",
        r"| \<b>x\</b> |",
        r"| a\|b c |",
        r"| \`d\` !\[e](http://f) |",
        "| \N{REPLACEMENT CHARACTER}\\[31mred |",
        "| p1_a#2 |",
    ]


def test_a_page_has_its_rows_and_its_pictures() -> None:
    page = render.markdown("Report of run r", [("votes", "5")], [Path("out/letters.png")])
    assert page == "# Report of run r\n\n|  |  |\n| --- | --- |\n| votes | 5 |\n\n![letters](letters.png)\n"
