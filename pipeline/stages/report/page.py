"""The page about one run, or about several beside each other; styles and script are part of it."""

from collections.abc import Sequence
from html import escape

from pipeline.runtime.markup import NONE_YET, duration, moment, number, paragraph, percent, section, short
from pipeline.runtime.page import Page, template
from pipeline.stages.report import corpora, tables
from pipeline.stages.report.charts import chart_data
from pipeline.stages.report.collect import RunReport
from pipeline.stages.report.compare import comparison, differences, middle
from pipeline.stages.report.goodput import goodput, goodput_section
from pipeline.stages.report.points import script_json
from pipeline.stages.report.ranks import rank_times

_NONE = "–"
_PACKAGE = "pipeline.stages.report"
_SCRIPTS = ("elements", "numbers", "data", "chart", "readings", "input", "chart_table", "legend", "live")
"""Parts of the script, each of which uses only those before it while it is read."""


def page(reports: Sequence[RunReport], is_live: bool = False) -> Page:
    """What the page shows of runs; a live one has charts even before there is a point, and asks for more."""
    has_charts = is_live or any(report.training or report.validation for report in reports)
    return Page(
        kind="run report" if len(reports) == 1 else "comparison of runs",
        title=", ".join(report.name for report in reports),
        state=state(reports[0]) if len(reports) == 1 else f"{len(reports)} runs",
        figures=key_figures(reports[0]) if len(reports) == 1 else [],
        sections=_sections(reports, _charts(reports, is_live) if has_charts else paragraph(NONE_YET)),
        style=template(_PACKAGE, "charts.css"),
        script="".join(template(_PACKAGE, f"{name}.js") for name in _SCRIPTS) if has_charts else "",
        is_live=is_live,
    )


def _sections(reports: Sequence[RunReport], charts: str) -> list[str]:
    shown = section("charts", "Charts", charts)
    if len(reports) == 1:
        return [shown, *details(reports[0])]
    return [comparison(reports), shown, differences(reports), *map(_folded, reports)]


def details(report: RunReport) -> list[str]:
    """The sections below the charts."""
    return [
        goodput_section(report),
        rank_times(report),
        tables.evaluations(report),
        tables.checkpoints(report),
        tables.restarts(report),
        corpora.corpora(report),
        tables.samples(report),
        tables.settings(report),
    ]


def _folded(report: RunReport) -> str:
    """All about one of several runs."""
    return f'<details class="run"><summary>{escape(report.name)}</summary>{"".join(details(report))}</details>'


def state(report: RunReport) -> str:
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
    history, share = report.sessions, goodput(report)
    return [
        ("steps", f"{number(last.get('step', 0))} of {number(report.config.num_steps)}"),
        ("training loss", number(last.get("train/loss"), 3)),
        ("validation loss", number(held_out.get("validation/loss"), 3)),
        ("bits per byte", number(held_out.get("validation/bits_per_byte"), 3)),
        ("tokens", short(last.get("train/tokens"))),
        ("tokens/s, median", short(middle(report, "perf/tokens_per_second"))),
        ("parameters", short(report.environment.get("parameters"))),
        ("ranks", number(history[-1].world_size if history else None)),
        ("time running", duration(sum(one.ended - one.started for one in history)) if history else _NONE),
        ("goodput", _NONE if share is None else percent(share, 1)),
    ]


def _charts(reports: Sequence[RunReport], is_live: bool) -> str:
    data = script_json({**chart_data(reports), "live": is_live})
    return f'{template(_PACKAGE, "charts.html")}<script type="application/json" id="data">{data}</script>'
