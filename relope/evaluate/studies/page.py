"""A study as one HTML file, in the report's style."""

import html

from relope.evaluate.pages.style import CSS
from relope.evaluate.pages.wording import Json, plain
from relope.evaluate.studies.inputs import Study


def render_study(study: Study, result: Json) -> str:
    """Return the whole page: what was run and what it shows first, how it was computed last."""
    title = html.escape(study.title)
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{CSS}</style>"
    )
    parts = [
        f'<header><h1>{title}</h1><p class="lead">{html.escape(study.what)}</p></header>',
        f'<p class="caveat">{html.escape(study.shows)}</p>',
        *(
            f'<figure><div class="scroll">{svg}</div><figcaption>{html.escape(caption)}</figcaption></figure>'
            for svg, caption in study.figures
        ),
        *(table.to_html() for table in study.tables),
        _how(result),
    ]
    body = f'<body class="study">\n{chr(10).join(parts)}\n</body>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n{body}</html>\n'


def _how(result: Json) -> str:
    folders = [one["folder"] for one in result["reports"]]
    rows = [
        ("intervals", f"95 % percentiles of {result['resamples']:,} bootstrap resamples of whole image groups"),
        ("seed", str(result["seed"])),
        ("sweeps" if result["sweeps"] else "reports", plain(result["sweeps"] or folders)),
        ("versions", plain(result["versions"])),
    ]
    listed = "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in rows)
    note = (
        "Every table is in <code>tables/</code> as Markdown, LaTeX and CSV; all numbers are in <code>study.json</code>."
    )
    return f'<h2>How this was computed</h2><dl class="how">{listed}</dl><p class="muted">{note}</p>'
