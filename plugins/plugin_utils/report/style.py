# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""How the report looks, on a screen in light and dark, on a phone and on paper."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --paper: #f6f6f3; --card: #ffffff; --ink: #1b232d; --soft: #566270; --line: #dfe2e2;
  --grid: #ebeded; --track: #e4e7e8; --good: #17713f; --good-back: #e2f3e8; --warn: #875000; --warn-back: #fcefd6;
  --bad: #b3231b; --bad-back: #fce6e3; --calm-back: #eceff1; --roll: #f3f1e9; --start: #3f7fd4; --gate: #12908b;
  --edge: #8a63c9; --drain: #cc8400; --soak: #84962a; --stop: #8793a0; --return: #c2501c; --old: #6f8197; --new:
  #12908b; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #11151a; --card: #191f26; --ink: #e5e9ee; --soft: #9eaab7; --line: #2f3842; --grid: #252d36;
    --track: #2c353f; --good: #6ad797; --good-back: #143524; --warn: #f3bb58; --warn-back: #3a2a0c; --bad: #ff8b80;
    --bad-back: #431a18; --calm-back: #28313a; --roll: #1f262b; --start: #6ba4f2; --gate: #3dc1bb; --edge: #b497ea;
    --drain: #edae3c; --soak: #b4c559; --stop: #93a0ae; --return: #ff9160; --old: #8fa1b6; --new: #3dc1bb; }
}
* { box-sizing: border-box; }
body { margin: 0; overflow-wrap: anywhere; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui,
  -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 28px 56px; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; font-size:
  .86em; }
h1, h2, p { margin: 0; }
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.2; font-weight: 680; letter-spacing: -.02em; }
h1 code { font-size: .8em; font-weight: 500; letter-spacing: 0; color: var(--soft); margin-left: .2em; }
h2 { font-size: 1.02rem; font-weight: 650; margin-bottom: 18px; }
h2 small { font-size: .88rem; font-weight: 400; color: var(--soft); margin-left: .5em; }
header { margin-bottom: 28px; }
.over { color: var(--soft); font-size: .9rem; margin-bottom: 6px; }
.verdict { display: inline-block; margin: 14px 0 0; padding: 3px 13px; border-radius: 99px; font-weight: 650;
  font-size: .95rem; }
.lead { margin-top: 12px; max-width: 46em; }
.is-good { color: var(--good); background: var(--good-back); }
.is-reverted, .is-held { color: var(--warn); background: var(--warn-back); }
.is-failed, .is-unreachable { color: var(--bad); background: var(--bad-back); }
.is-nothing, .is-unknown, .is-unchanged, .is-untouched { color: var(--soft); background: var(--calm-back); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 24px 26px;
  margin-bottom: 18px; }
.figures { display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between; gap: 24px 56px; }
.big { font-size: clamp(2.7rem, 10vw, 4.1rem); line-height: 1.05; font-weight: 680; letter-spacing: -.035em;
  font-variant-numeric: tabular-nums; }
.big b { font-weight: inherit; }
.big small { font-size: .42em; font-weight: 450; letter-spacing: 0; color: var(--soft); }
.big.well b:first-child { color: var(--good); }
.big.bad b:first-child { color: var(--bad); }
.big.none { color: var(--soft); font-size: 2rem; letter-spacing: -.01em; }
.under { margin-top: 6px; }
.under b { font-weight: 650; }
.note { color: var(--soft); font-size: .88rem; margin-top: 6px; max-width: 40em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: .88rem; padding-bottom: 6px; }
.latency th, .latency td { text-align: right; padding: 5px 0 5px 22px; font-weight: 400; }
.latency th:first-child, .latency td:first-child { text-align: left; padding-left: 0; }
.latency thead { color: var(--soft); font-size: .88rem; }
.latency tbody tr { border-top: 1px solid var(--line); }
.latency .count { color: var(--soft); }
.picture { display: grid; grid-template-columns: minmax(52px, auto) minmax(0, 1fr); column-gap: 14px; padding-right:
  10px; }
.labels { position: relative; width: min(var(--names) + 1ch, 27vw, 220px); font-size: 13px; }
.label { position: absolute; left: 0; right: 0; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
.label.caption { color: var(--soft); font-size: 12px; }
.label.tick { color: var(--soft); font-size: 12px; text-align: right; }
.label.failed, .label.unreachable { color: var(--bad); font-weight: 650; }
svg { display: block; overflow: visible; }
svg text { font-size: 12px; fill: var(--soft); }
.idle { stroke: var(--card); stroke-width: 4px; paint-order: stroke; }
svg .time { text-anchor: middle; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--grid); }
.rule { stroke: var(--line); }
.axis { stroke: var(--line); }
.track { stroke: var(--track); stroke-width: 1; }
svg .roll { fill: var(--roll); }
.phase { stroke: var(--card); stroke-width: 1; }
.hatch { fill: var(--card); opacity: .62; }
svg .back { fill: url(#hatch); stroke: var(--return); stroke-width: 1.3; }
svg .switch { stroke: var(--ink); stroke-width: 2.4; }
.cross path { stroke: var(--bad); stroke-width: 2.6; fill: none; stroke-linecap: round; }
.cross .cross-back { stroke: var(--card); stroke-width: 6; }
.phase-start { fill: var(--start); background: var(--start); }
.phase-gate { fill: var(--gate); background: var(--gate); }
.phase-edge { fill: var(--edge); background: var(--edge); }
.phase-drain { fill: var(--drain); background: var(--drain); }
.phase-soak { fill: var(--soak); background: var(--soak); }
.phase-stop { fill: var(--stop); background: var(--stop); }
.phase-return { fill: var(--return); background: var(--return); }
.phase-other { fill: var(--soft); background: var(--soft); }
circle { opacity: .78; }
.old { fill: var(--old); background: var(--old); }
.new { fill: var(--new); background: var(--new); }
.some { fill: var(--start); background: var(--start); }
svg .failure { stroke: var(--bad); stroke-width: 2.6; }
.trace { stroke: var(--bad); stroke-width: 1; opacity: .35; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 20px 0 0; padding: 0; font-size:
  13px; color: var(--soft); }
.legend li { display: flex; align-items: center; gap: 7px; }
.legend i { width: 13px; height: 11px; border-radius: 2px; }
.legend .dot { width: 8px; height: 8px; border-radius: 50%; }
.legend .switch { width: 3px; height: 15px; background: var(--ink); }
.legend .failure { width: 3px; height: 14px; background: var(--bad); }
.legend .roll { background: var(--roll); border: 1px solid var(--line); }
.legend .back { border: 1.3px solid var(--return); background: repeating-linear-gradient(135deg, var(--stop) 0 2px,
  transparent 2px 5px); }
.hosts, .failures { width: 100%; }
.hosts thead, .failures thead { color: var(--soft); font-size: .88rem; }
.hosts th, .hosts td, .failures th, .failures td { text-align: left; font-weight: 400; padding: 8px 16px 8px 0;
  vertical-align: baseline; }
.hosts tbody tr, .failures tbody tr { border-top: 1px solid var(--line); }
.hosts tbody .host { font-weight: 600; }
.hosts .seconds { text-align: right; padding-right: 0; }
.hosts .seconds small { display: none; }
span.outcome { display: inline-block; padding: 1px 10px; border-radius: 99px; font-size: .88rem; font-weight: 550; }
.failures .when { white-space: nowrap; color: var(--soft); }
details { border-top: 1px solid var(--line); padding-top: 14px; margin-top: 14px; }
h2 + details { border: 0; padding: 0; margin: 0; }
summary { cursor: pointer; }
summary b { color: var(--bad); margin-right: .4em; }
pre { margin: 14px 0 0; padding: 14px 16px; background: var(--paper); border: 1px solid var(--line); border-radius:
  9px; font-size: 12.5px; line-height: 1.55; max-height: 26rem; overflow: auto; white-space: pre-wrap; }
.plays { list-style: none; margin: 0; padding: 0; font-size: .92rem; }
.plays li { display: grid; grid-template-columns: minmax(0, 16em) 1fr 6.2em; align-items: center; gap: 16px; padding:
  3px 0; }
.plays li > :last-child { text-align: right; font-variant-numeric: tabular-nums; color: var(--soft); }
.plays .bar { background: var(--grid); height: 9px; border-radius: 5px; overflow: hidden; }
.plays i { display: block; height: 100%; min-width: 2px; background: var(--old); border-radius: 5px; }
footer { color: var(--soft); font-size: .88rem; padding: 8px 4px; }
:focus-visible { outline: 2px solid var(--start); outline-offset: 2px; }
@media (max-width: 640px) {
  main { padding: 24px 14px 36px; }
  section { padding: 18px 16px; border-radius: 12px; }
  .figures > * { width: 100%; }
  .latency th, .latency td { padding-left: 8px; font-size: .92rem; }
  .picture { column-gap: 9px; padding-right: 4px; }
  .hosts thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .hosts tbody tr { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 6px 10px; padding: 11px 0; }
  .hosts th, .hosts td { padding: 0; }
  .hosts .host { grid-column: 1 / 3; }
  .hosts td.outcome { grid-area: 1 / 3; text-align: right; }
  .hosts td.batch { grid-area: 3 / 1 / 4 / 3; color: var(--soft); font-size: .88rem; }
  .hosts td.seconds { grid-area: 3 / 3; color: var(--soft); font-size: .88rem; }
  .hosts .batch::before { content: "batch "; }
  .hosts .seconds small { display: inline; font-size: inherit; }
  .hosts .was, .hosts .tried, .hosts .now { grid-row: 2; line-height: 1.35; }
  .hosts .was::before, .hosts .tried::before, .hosts .now::before { content: attr(data-name); display: block; color:
    var(--soft); font-size: 12px; }
  .failures th, .failures td { padding-right: 10px; font-size: .92rem; }
  .plays li { grid-template-columns: 1fr 5.6em; gap: 2px 10px; }
  .plays .bar { grid-row: 2; grid-column: 1 / 3; }
}
@media print {
  :root { color-scheme: light; --paper: #fff; }
  body { font-size: 11pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  section { break-inside: avoid; border-color: #ccc; }
  pre { max-height: none; overflow: visible; }
}
"""
