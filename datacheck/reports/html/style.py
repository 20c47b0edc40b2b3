"""The style sheet. The page reads without it, too: some servers forbid inline styles."""

from __future__ import annotations

__all__ = ["BAD", "BAR_COLORS", "CSS", "SERIES_COLORS"]

#: Of what breaks a rule; dark enough on white and light enough on black.
BAD = "#d9480f"
#: Of rows that were kept, dropped and quarantined.
BAR_COLORS = ("#2b8a5b", "#7a8594", "#d9480f")
#: Of datasets side by side: bars, then outlines.
SERIES_COLORS = ("#7a8594", "#1f6fd1", "#2b8a5b", "#b8860b")

CSS = """
:root{--paper:#fff;--ink:#1b2430;--soft:#566171;
--line:#dfe3e8;--panel:#f6f7f9;--bad:#b42b06;--warn:#8a5a00;--good:#1d6f47;--link:#1f5fae}
@media (prefers-color-scheme:dark){
:root{--paper:#14181e;--ink:#e8ebef;--soft:#a6b0bd;
--line:#323a45;--panel:#1c222a;--bad:#ff9a76;--warn:#f0c36a;--good:#7fd6a6;--link:#8fbdf5}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main,header,footer{max-width:64rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:2.2rem}
h1{font-size:1.05rem;font-weight:600;margin:0;color:var(--soft);letter-spacing:.01em}
h2{font-size:1.15rem;margin:2.6rem 0 .6rem;padding-bottom:.35rem;border-bottom:1px solid var(--line)}
h3{font-size:.95rem;margin:1.6rem 0 .4rem}
p{margin:.4rem 0}
.verdict{font-size:2rem;line-height:1.2;font-weight:650;margin:.25rem 0 1rem;letter-spacing:-.01em}
.bad{color:var(--bad)}.warn{color:var(--warn)}.good{color:var(--good)}.soft{color:var(--soft)}
dl.facts{display:flex;flex-wrap:wrap;gap:.6rem;margin:0}
dl.facts div{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.55rem .9rem;min-width:7rem}
dl.facts dt{font-size:.78rem;color:var(--soft)}
dl.facts dd{margin:0;font-size:1.25rem;font-variant-numeric:tabular-nums}
code{font:.86em/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
pre{background:var(--panel);border:1px solid var(--line);border-radius:.4rem;padding:.6rem .8rem;overflow-x:auto;margin:.5rem 0}
.scroll{overflow-x:auto;margin:.6rem 0 1rem}
.scroll>svg{min-width:40rem}
.scroll:focus-visible{outline:2px solid var(--link);outline-offset:2px}
table{border-collapse:collapse;width:100%;min-width:36rem;
font-size:.9rem}
caption{text-align:left;color:var(--soft);font-size:.82rem;padding:.2rem 0}
th,td{text-align:left;padding:.38rem .7rem .38rem 0;border-bottom:1px solid var(--line);vertical-align:top}
thead th{font-size:.78rem;color:var(--soft);font-weight:600;white-space:nowrap}
tbody th{font-weight:500}
td+td,th+th,th+td{padding-left:.7rem}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
details{margin:.4rem 0}
summary{cursor:pointer;color:var(--link)}
svg{display:block;max-width:100%;height:auto;color:var(--ink);margin:.3rem 0}
.swatch{display:inline-block;margin:0 .1rem 0 .7rem}.swatch:first-child{margin-left:0}
li{margin:.25rem 0}ul{padding-left:1.1rem}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(22rem,1fr));gap:1.2rem 2rem}
figure{margin:0}figcaption{font-weight:500;margin-bottom:.2rem}
.grid table{min-width:0;font-size:.8rem}
.chip{display:inline-block;
border:1px solid currentColor;border-radius:1rem;padding:0 .5rem;font-size:.75rem;line-height:1.45;white-space:nowrap}
footer{color:var(--soft);font-size:.82rem;padding-top:2.5rem;padding-bottom:2.5rem}
@media (max-width:40rem){.verdict{font-size:1.5rem}dl.facts div{min-width:calc(50% - .3rem);flex:1}}
@media print{body{font-size:11px}header,main,footer{max-width:none}h2{break-after:avoid}
tr,svg{break-inside:avoid}.scroll{overflow:visible}details>*{display:block}}
""".strip()
