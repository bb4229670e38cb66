"""What a test sees of a report's charts in a browser, and how it steers them."""

import json

from tests.system.chromium import Page

LOSS = "#chart-grid .chart:first-child"
"""The chart of losses."""


def num_points(page: Page, name: str = "training", selector: str = LOSS) -> int:
    """Points of a line of a chart."""
    path = f"{selector} path[data-name={json.dumps(name)}]"
    return page.run(f"document.querySelector({json.dumps(path)}).getAttribute('d').split(/[ML]/).length - 1")


def texts(page: Page, selector: str) -> list[str]:
    return page.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent)")


def axis(page: Page) -> list[str]:
    """What the loss chart's axis of steps says."""
    return texts(page, f"{LOSS} text[text-anchor=middle]")


def focus(page: Page, selector: str = f"{LOSS} .plot") -> None:
    page.run(f"document.querySelector({json.dumps(selector)}).focus()")


def drag(page: Page, start: float, end: float) -> None:
    """Drag over the loss chart between two shares of its width."""
    box = page.box(f"{LOSS} .plot")
    y = box["y"] + box["height"] / 2
    page.mouse("mouseMoved", box["x"] + start * box["width"], y)
    page.mouse("mousePressed", box["x"] + start * box["width"], y)
    page.mouse("mouseMoved", box["x"] + end * box["width"], y)
    page.mouse("mouseReleased", box["x"] + end * box["width"], y)


def setting(page: Page, name: str, value: str) -> None:
    """Set a field, as if by hand."""
    found = f"const e = document.getElementById('{name}'); e.value = '{value}';"
    page.run(f"(() => {{ {found} for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind)); }})()")


def click(page: Page, selector: str, clicks: int = 1) -> None:
    box = page.box(selector)
    page.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, clicks)
