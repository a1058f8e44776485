"""The report's style sheet: light, dark and print, with no font or file fetched."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1d22; --muted: #5c626e; --grid: #e3e6ea; --soft: #f5f6f8; --grey: #a3a9b4;
  --s1: #0072b2; --s2: #d55e00; --s3: #009e73; --s4: #cc79a7; --s5: #e69f00; --s6: #56b4e9;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171b; --ink: #e8eaee; --muted: #a2a9b6; --grid: #2d3138; --soft: #1d2026; --grey: #6c7380;
    --s1: #56b4e9; --s2: #ec7a3c; --s3: #1fbf91; --s4: #dc94bb; --s5: #e69f00; --s6: #f5ec6b;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2.2rem 1.5rem 4rem; max-width: 1008px; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; font-variant-numeric: tabular-nums;
}
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .35rem; letter-spacing: -.01em; text-wrap: balance; }
h2 { font-size: 1.3rem; margin: 3.2rem 0 .4rem; letter-spacing: -.005em; }
h3 { font-size: 1rem; margin: 1.6rem 0 .2rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
.lead { color: var(--muted); font-size: 1.05rem; max-width: none; }
.muted, figcaption, caption { color: var(--muted); }
.finding { font-size: 1.05rem; max-width: none; }
.caveat { border-left: 3px solid var(--s2); padding: .1rem 0 .1rem .9rem; margin: 1.2rem 0; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: .8rem; margin: 1.2rem 0 1.1rem; }
.tile { background: var(--soft); border-radius: 8px; padding: .75rem .9rem .8rem; }
.tile .label { color: var(--muted); font-size: .86rem; line-height: 1.3; min-height: 2.6em; }
.tile .value { font-size: 2.05rem; line-height: 1.15; font-weight: 650; margin: .2rem 0 .15rem; }
.tile.main { background: color-mix(in srgb, var(--s1) 13%, var(--paper)); }
.tile .under { font-size: .86rem; line-height: 1.35; white-space: pre-line; }
figure { margin: .6rem 0 1.2rem; }
figcaption { font-size: .9rem; max-width: 46rem; }
svg { display: block; }
svg.figure { width: 100%; height: auto; }
svg text { font-family: inherit; paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
.wide { overflow-x: auto; margin-bottom: 1.6rem; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
caption { text-align: left; font-size: .9rem; padding-bottom: .5rem; }
th, td { text-align: left; padding: .42rem .7rem .42rem 0; vertical-align: middle; }
th, td { border-bottom: 1px solid var(--grid); }
th { font-weight: 500; color: var(--muted); font-size: .86rem; vertical-align: bottom; }
td.n, th.n { text-align: right; white-space: nowrap; }
td:first-child, th:first-child { padding-left: .6rem; }
td:last-child, th:last-child { padding-right: .6rem; }
tr.best td:first-child, tr.base td:first-child { font-weight: 650; }
td b, td .name, td.label { white-space: nowrap; }
td .under { color: var(--muted); font-size: .84rem; font-weight: 400; white-space: nowrap; }
td .note { color: var(--muted); font-size: .82rem; font-weight: 400; line-height: 1.3; max-width: 11rem; }
td.strip { padding: 0; background: var(--lines); width: 196px; min-width: 196px; }
th.strip { padding-left: 0; }
.apart { padding-left: 1.6rem; }
tbody.controls td { background: var(--soft); }
tbody.controls td.strip { background: var(--lines), var(--soft); }
tbody.controls tr.why td { color: var(--muted); font-size: .88rem; padding: .8rem .6rem .5rem; }
tbody.controls tr.why td { border-top: 6px solid var(--paper); }
.higher { color: var(--s3); font-weight: 650; }
.lower { color: var(--s2); font-weight: 650; }
tr.group th { font-weight: 650; font-size: .93rem; color: var(--ink); padding-top: 1.1rem; }
.study { max-width: 1110px; }
.study figure { max-width: 960px; }
.study thead th { vertical-align: bottom; }
.study table { width: auto; min-width: 34rem; font-size: .89rem; }
.study caption { color: var(--ink); font-size: 1rem; font-weight: 650; padding-top: 1.6rem; }
.study th, .study td { padding: .3rem .6rem; vertical-align: top; }
.study p { font-size: .93rem; }
.study .lead { font-size: 1.05rem; }
.study .caveat { font-size: 1rem; }
.study .wide + p { margin-top: .7rem; }
.study p.muted { margin-bottom: .3rem; }
.cards { display: grid; grid-template-columns: repeat(6, 1fr); gap: .9rem; margin: .6rem 0 1.4rem; }
.card { font-size: .82rem; line-height: 1.35; overflow-wrap: anywhere; }
.card img, .card .none { width: 96px; height: 96px; object-fit: contain; image-rendering: pixelated; display: block;
  background: var(--soft); border-radius: 4px; margin-bottom: .35rem; }
.card .none { display: grid; place-items: center; color: var(--muted); }
.card .q { font-weight: 600; }
.card dl { display: grid; grid-template-columns: auto 1fr; gap: 0 .45rem; margin: .25rem 0 0; }
.card dt { color: var(--muted); }
.card dd { margin: 0; }
.yes { color: var(--s3); font-weight: 650; }
.no { color: var(--s2); font-weight: 650; }
dl.how { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.4rem; font-size: .92rem; }
dl.how dt { color: var(--muted); }
dl.how dd { margin: 0; overflow-wrap: anywhere; }
@media screen and (max-width: 760px) {
  .tiles { grid-template-columns: repeat(2, 1fr); }
  .cards { grid-template-columns: repeat(3, 1fr); }
  .scroll svg.figure { min-width: 640px; }
  .scroll { overflow-x: auto; }
}
@media print {
  :root {
    --paper: #ffffff; --ink: #000000; --muted: #4d525c; --grid: #d9dce1; --soft: #f3f4f6; --grey: #9097a3;
    --s1: #0072b2; --s2: #d55e00; --s3: #009e73; --s4: #cc79a7; --s5: #e69f00; --s6: #56b4e9;
  }
  @page { size: A4; margin: 12mm; }
  body { max-width: none; padding: 0; zoom: .71; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .study { zoom: .65; }
  .wide, .scroll { overflow: visible; }
  figure, .tiles, tr, .card, caption { break-inside: avoid; }
  h2, h3, h3 + p, caption, thead, tr.group { break-after: avoid; }
}
"""
