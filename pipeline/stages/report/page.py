"""The page: head with the key figures, charts, tables; styles and script are part of it."""

from pipeline.runtime.markup import NONE_YET, duration, moment, number, paragraph, section, short
from pipeline.runtime.page import Page, template
from pipeline.stages.report import tables
from pipeline.stages.report.chart import chart_data, script_json
from pipeline.stages.report.collect import RunReport


def page(report: RunReport) -> Page:
    """What the page about a run shows."""
    parts = [
        _charts(report),
        tables.evaluations(report),
        tables.checkpoints(report),
        tables.restarts(report),
        tables.corpora(report),
        tables.samples(report),
        tables.settings(report),
    ]
    return Page(
        kind="run report",
        title=report.name,
        state=_state(report),
        figures=key_figures(report),
        sections=parts,
        style=template("pipeline.stages", "charts.css"),
        script=template("pipeline.stages", "charts.js") if _has_metrics(report) else "",
    )


def _state(report: RunReport) -> str:
    """One line: what it is, how far it came and when it was last heard of."""
    config, history = report.config, report.sessions
    kind = f"{config.stage}, {config.model.type}, ZeRO-{config.engine.zero_stage}, {config.engine.precision}"
    if not history:
        return f"{kind} · not started"
    last = history[-1]
    end = {"complete": "complete"}.get(last.reason or "", f"stopped: {last.reason}")
    return f"{kind} · {end if last.reason else 'running, or killed'} · last entry {moment(last.ended)} UTC"


def key_figures(report: RunReport) -> list[tuple[str, str]]:
    """The figures at the head of the page; a dash where there is none yet."""
    training, validation = report.training, report.validation
    last = training[-1] if training else {}
    held_out = validation[-1] if validation else {}
    rates = sorted(row["perf/tokens_per_second"] for row in training if row.get("perf/tokens_per_second"))
    history = report.sessions
    return [
        ("steps", f"{number(last.get('step', 0))} of {number(report.config.num_steps)}"),
        ("training loss", number(last.get("train/loss"), 3)),
        ("validation loss", number(held_out.get("validation/loss"), 3)),
        ("bits per byte", number(held_out.get("validation/bits_per_byte"), 3)),
        ("tokens", short(last.get("train/tokens"))),
        ("tokens/s, median", short(rates[len(rates) // 2] if rates else None)),
        ("parameters", short(report.environment.get("parameters"))),
        ("ranks", number(history[-1].world_size if history else None)),
        ("time running", duration(sum(one.ended - one.started for one in history)) if history else "–"),
    ]


def _charts(report: RunReport) -> str:
    if not _has_metrics(report):
        return section("charts", "Charts", paragraph(NONE_YET))
    data = f'<script type="application/json" id="data">{script_json(chart_data(report))}</script>'
    return section("charts", "Charts", _CHARTS + data)


def _has_metrics(report: RunReport) -> bool:
    return bool(report.training or report.validation)


_CHARTS = """
<div class="toolbar">
  <ul class="legend" aria-label="Marks">
    <li><svg class="key" viewBox="0 0 24 12" aria-hidden="true"><path class="line s0" d="M0 6h24"/></svg>training</li>
    <li><svg class="key" viewBox="0 0 24 12" aria-hidden="true"><path class="link s1" d="M0 6h24"/>
      <circle class="dot s1" cx="12" cy="6" r="4"/></svg>validation</li>
    <li><svg class="key" viewBox="0 0 24 12" aria-hidden="true">
      <path class="mark save" d="M12 1v10"/></svg>checkpoint</li>
    <li><svg class="key" viewBox="0 0 24 12" aria-hidden="true">
      <path class="mark resume" d="M12 0v12"/></svg>restart</li>
    <li><svg class="key" viewBox="0 0 24 12" aria-hidden="true">
      <path class="mark evaluation" d="M12 1l5 5-5 5-5-5z"/></svg>evaluation</li>
  </ul>
  <button type="button" id="reset" disabled>Whole run</button>
</div>
<p class="note" id="help">Drag over a chart to zoom all of them. With the keyboard: ← → move the cursor, + − zoom,
  Esc shows the whole run.</p>
<div id="chart-grid"></div>
<noscript><p class="note">The charts need JavaScript; all their numbers are in metrics.jsonl.</p></noscript>
<p id="live" class="hidden" aria-live="polite"></p>
"""
