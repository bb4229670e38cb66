// The same numbers as a table, made when it is opened: what is shown of the chart, at most so many rows of it.
const TABLE_ROWS = 100;

class ChartTable {
  constructor(chart) {
    this.chart = chart;
    this.details = html("details", "numbers", chart.box);
    html("summary", "", this.details, "As a table").setAttribute("aria-label", `${chart.data.title} as a table`);
    this.frame = html("div", "scroll", this.details);
    this.frame.tabIndex = 0;
    this.frame.setAttribute("role", "region");
    this.frame.setAttribute("aria-label", `${chart.data.title}, numbers`);
    this.details.addEventListener("toggle", () => this.draw());
  }

  draw() {
    if (!this.details.open) return;
    const table = html("table");
    const { series, data } = this.chart;
    const head = html("tr", "", html("thead", "", table));
    for (const text of [view.axis === "time" ? "wall time" : view.axis, ...series.map((one) => label(this.chart, one))]) html("th", "number", head, text).scope = "col";
    const body = html("tbody", "", table);
    for (const x of this.rows(series)) {
      const row = html("tr", "", body);
      html("td", "number", row, axisText[view.axis].tick(x));
      for (const one of series) {
        const point = nearest(one.drawn, x, (each) => each.x);
        html("td", "number", row, point?.x === x ? formats[data.format](point.y) : "");
      }
    }
    this.frame.replaceChildren(table);
  }

  rows(series) {
    const [low, high] = shown();
    const all = [...new Set(series.flatMap((one) => one.drawn.map(({ x }) => x)))].filter((x) => x >= low && x <= high);
    all.sort((a, b) => a - b);
    const every = Math.ceil(all.length / TABLE_ROWS);
    return all.filter((_, i) => i % every === 0 || i === all.length - 1);
  }
}
