"""The style sheet. The page reads without it, too: some servers forbid inline styles."""

from __future__ import annotations

#: Of what breaks a rule; dark enough on white and light enough on black.
BAD = "#d9480f"
#: Of axes and empty places.
NEUTRAL = "#8891a0"
#: Of rows that were kept, dropped and quarantined.
BAR_COLORS = ("#2b8a5b", "#7a8594", "#d9480f")
#: Of datasets side by side: bars, then outlines.
SERIES_COLORS = ("#7a8594", "#1f6fd1", "#2b8a5b", "#b8860b")

CSS = """
:root{--paper:#fff;--ink:#17202b;--soft:#566171;
--line:#e3e7ec;--panel:#f5f7f9;--bad:#b42b06;--warn:#8a5a00;--good:#1d6f47;--link:#1f5fae}
@media (prefers-color-scheme:dark){
:root{--paper:#12161c;--ink:#e8ebef;--soft:#a6b0bd;
--line:#2b333d;--panel:#1b2129;--bad:#ff9a76;--warn:#f0c36a;--good:#7fd6a6;--link:#8fbdf5}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
font:.95rem/1.55 Inter,system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main,header,footer{max-width:66rem;margin:0 auto;padding:0 1.5rem}
header{padding-top:2.5rem}
h1{font-size:.95rem;font-weight:600;margin:0;color:var(--soft);overflow-wrap:anywhere}
h2{font-size:1.25rem;font-weight:650;letter-spacing:-.01em;line-height:1.3;
margin:3.2rem 0 .7rem;padding-top:1.1rem;border-top:1px solid var(--line);overflow-wrap:anywhere}
h3{font-size:.95rem;font-weight:600;margin:1.7rem 0 .4rem;overflow-wrap:anywhere}
p{margin:.4rem 0;max-width:46rem}
.verdict{display:flex;gap:.6rem;max-width:none;
font-size:2.1rem;line-height:1.2;font-weight:700;margin:.3rem 0 1.4rem;letter-spacing:-.02em;overflow-wrap:anywhere}
.verdict svg{flex:none;width:2.1rem;height:2.1rem;margin:.15rem 0 0;color:inherit}
.bad{color:var(--bad)}.warn{color:var(--warn)}.good{color:var(--good)}.soft{color:var(--soft);font-size:.9rem}
dl.facts{display:flex;flex-wrap:wrap;gap:.9rem 0;margin:0}
dl.facts div{padding:0 1.6rem;border-left:1px solid var(--line)}
dl.facts div:first-child{padding-left:0;border:0}
dl.facts dt{font-size:.8rem;color:var(--soft)}
dl.facts dd{margin:0;font-size:1.35rem;line-height:1.3;font-weight:600;font-variant-numeric:tabular-nums}
code,pre{font:.86em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
pre{background:var(--panel);border-radius:.4rem;padding:.7rem .9rem;white-space:pre-wrap;margin:.5rem 0}
pre code{font-size:1em}
.name{white-space:nowrap}
pre.draft{max-height:34rem;overflow:auto}
.source{border-left:3px solid var(--bad)}
.value{background:var(--panel);border-radius:.25rem;padding:.08rem .3rem;margin-right:.3rem}
.scroll{overflow-x:auto;margin:.6rem 0 1rem}
.scroll:focus-visible,pre:focus-visible{outline:2px solid var(--link);outline-offset:2px}
table{border-collapse:collapse;font-size:.88rem}
.wide{width:100%;min-width:44rem}
caption{text-align:left;color:var(--soft);font-size:.8rem;padding:0 0 .3rem}
th,td{text-align:left;padding:.42rem 1.4rem .42rem 0;border-bottom:1px solid var(--line);vertical-align:baseline}
tr>:last-child{padding-right:.2rem}
thead th{font-size:.78rem;color:var(--soft);font-weight:600;white-space:nowrap}
td{overflow-wrap:anywhere}
tbody th{font-weight:500;min-width:6rem}tbody th+td{min-width:5rem}.wide tbody th+td{min-width:9rem}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.share{display:flex;gap:.6rem;align-items:center;white-space:nowrap;font-variant-numeric:tabular-nums}
.share svg{flex:none;margin:0;border-radius:2px}
details{margin:.35rem 0}
summary{cursor:pointer;color:var(--link);font-size:.88rem}
summary:hover{text-decoration:underline}
svg{display:block;max-width:100%;height:auto;color:var(--ink);margin:.3rem 0}
.bar{width:100%;height:14px;border-radius:3px}
.map div{display:grid;grid-template-columns:15rem 1fr;gap:.75rem;align-items:center;line-height:1.35}
.map code,.map .axis{font-size:.75rem;text-align:right;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.map svg{width:100%;height:13px;margin:1.5px 0}
.map .axis{display:flex;justify-content:space-between;color:var(--soft);grid-column:2;white-space:normal}
.swatch{display:inline-block;margin:0 .1rem 0 .9rem;border-radius:2px}.swatch:first-child{margin-left:0}
li{margin:.3rem 0;overflow-wrap:anywhere}ul{padding-left:1.1rem}
.grid{columns:2 22rem;column-gap:2.5rem;margin-top:1rem}
figure{margin:0 0 1.4rem;break-inside:avoid}figcaption{font-weight:600;margin-bottom:.1rem;overflow-wrap:anywhere}
figcaption .soft,h3 .soft{font-weight:400;font-size:.82rem}
.grid td,.grid th{padding-right:.8rem;font-size:.8rem;min-width:0}
.chip{display:inline-block;color:var(--soft);
border:1px solid currentColor;border-radius:1rem;padding:0 .45rem;font-size:.72rem;line-height:1.4;white-space:nowrap}
.empty{background:var(--panel);border-radius:.5rem;padding:1.1rem 1.3rem;margin:.8rem 0 0;max-width:none}
footer{color:var(--soft);font-size:.82rem;padding-top:3rem;padding-bottom:2.5rem}
@media (max-width:46rem){main,header,footer{padding-left:1rem;padding-right:1rem}header{padding-top:1.5rem}
.verdict{font-size:1.55rem}.verdict svg{width:1.55rem;height:1.55rem}
dl.facts{display:grid;grid-template-columns:1fr 1fr;gap:.8rem 1rem}dl.facts div{padding:0;border:0}
th,td{padding-right:.8rem}table{font-size:.82rem}.wide{min-width:36rem}.share svg{display:none}
.map div{grid-template-columns:1fr;gap:0;margin-top:.3rem}.map code{text-align:left}.map .axis{grid-column:1}}
@media (max-height:42rem){header{padding-top:1rem}h2{margin-top:1.5rem;padding-top:.8rem}
.verdict{font-size:1.5rem;margin:.2rem 0 .8rem}.verdict svg{width:1.5rem;height:1.5rem}
dl.facts dd{font-size:1.1rem}footer{padding-top:1.5rem;padding-bottom:1rem}}
@media print{html{font-size:11px}body{background:none}main,header,footer{max-width:none;padding:0}
h2,h3,caption,summary,p:has(+pre){break-after:avoid}summary{list-style:none;color:inherit}summary::-webkit-details-marker{display:none}
tr,svg,.map,li,pre:not(.draft){break-inside:avoid}.scroll{overflow:visible}.wide{min-width:0}pre.draft{max-height:none}
.fold:not([open]){display:none}details::details-content{content-visibility:visible;height:auto}}
""".strip()
