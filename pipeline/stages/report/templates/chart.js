// One chart: its frame, its axes, its lines and its marks.
const grid = document.getElementById("chart-grid");
const COLOURS = 8;
const DASHES = 4;

class Chart {
  constructor(data) {
    this.data = data;
    this.isLog = false;
    this.box = html("div", "chart", grid);
    const title = html("h3", "", this.box, data.title);
    html("span", "unit", title, data.unit);
    toggle("log", title, "log", false, (isOn) => { this.isLog = isOn; this.draw(); })
      .setAttribute("aria-label", `${data.title}: logarithmic axis`);
    this.read = html("p", "read", this.box);
    this.legend = html("div", "legend", this.box);
    this.plot = svg("svg", { class: "plot", tabindex: 0, role: "application", "aria-roledescription": "chart" }, this.box);
    this.plot.setAttribute("aria-label", `${data.title}${data.unit ? `, ${data.unit}` : ""}`);
    this.plot.setAttribute("aria-describedby", "help");
    this.table = new ChartTable(this);
    this.buttons = new Map();
    listen(this);
  }

  get isEmpty() {
    return this.data.series.every((one) => one.points.length === 0);
  }

  // Series that are switched on.
  get series() {
    return this.data.series.filter((one) => !view.hidden.has(seriesKey(this.data, one)) && !view.hidden.has(runKey(one.run)));
  }

  // Colours tell runs apart, and dashes the series of a run; of one run colours tell its series apart.
  look(one) {
    const names = [...new Set(this.data.series.map(({ name }) => name))];
    const number = names.indexOf(one.name);
    return runs.length > 1 ? `c${one.run % COLOURS} d${number % DASHES}` : `c${number % COLOURS} d0`;
  }

  // Visible points, with the neighbours just outside so that lines run to the edge.
  visible(one) {
    const points = this.isLog ? one.drawn.filter(({ y }) => y > 0) : one.drawn;
    const [low, high] = shown();
    const first = below(points, low, ({ x }) => x);
    const after = below(points, high, ({ x }) => x);
    return points.slice(Math.max(0, first - 1), after + 1);
  }

  layout() {
    const wide = this.box === grid.firstElementChild;
    this.size = { width: this.box.clientWidth, height: wide ? 320 : 210 };
    this.area = { left: 54, right: this.size.width - 14, top: 8, bottom: this.size.height - 38 };
    const values = this.series.flatMap((one) => this.visible(one).map(({ y }) => y));
    if (!values.length) values.push(this.isLog ? 1 : 0);
    const ends = (list) => list.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
    const scaledValues = this.isLog ? values.map(Math.log10) : values;
    let [low, high] = ends(scaledValues);
    if (this.data.zero && !this.isLog) low = Math.min(0, low);
    const pad = (high - low || Math.abs(high) || 1) * 0.06;
    this.range = [low === 0 && !this.isLog ? 0 : low - pad, high + pad];
  }

  x(x) {
    const [low, high] = shown();
    return this.area.left + ((x - low) / (high - low)) * (this.area.right - this.area.left);
  }

  y(value) {
    const [low, high] = this.range;
    const at = this.isLog ? Math.log10(value) : value;
    return this.area.bottom - ((at - low) / (high - low)) * (this.area.bottom - this.area.top);
  }

  placeAt(x) {
    const share = (x - this.area.left) / (this.area.right - this.area.left);
    const [low, high] = shown();
    return low + Math.min(1, Math.max(0, share)) * (high - low);
  }

  draw() {
    this.plot.classList.toggle("empty", this.isEmpty);
    this.layout();
    const { width, height } = this.size;
    this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.plot.setAttribute("height", height);
    this.plot.replaceChildren();
    this.drawAxes();
    const { left, right, top, bottom } = this.area;
    const clip = svg("clipPath", { id: `clip-${this.data.id}` }, this.plot);
    svg("rect", { x: left - 5, y: 0, width: right - left + 10, height: bottom + 16 }, clip);
    const inside = svg("g", { "clip-path": `url(#clip-${this.data.id})` }, this.plot);
    for (const mark of marks) this.drawMark(mark, inside, top, bottom);
    for (const one of this.series) this.drawSeries(one, inside);
    this.over = svg("g", {}, this.plot);
    drawLegend(this);
    drawCursor(this);
    this.table.draw();
  }

  drawAxes() {
    const { left, right, top, bottom } = this.area;
    const [values, spacing] = this.isLog ? logTicks(...this.range) : ticks(...this.range, (bottom - top) / 44);
    for (const value of values) {
      const y = this.y(value);
      svg("path", { class: "grid", d: `M${left} ${y}H${right}` }, this.plot);
      svg("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, this.plot, tickText(this.data.format, value, spacing));
    }
    svg("path", { class: "axis", d: `M${left} ${bottom}H${right}` }, this.plot);
    for (const x of ticks(...shown(), Math.max(2, (right - left) / 85))[0]) {
      if (view.axis === "step" && !Number.isInteger(x)) continue;
      svg("text", { x: this.x(x), y: bottom + 30, "text-anchor": "middle" }, this.plot, axisText[view.axis].tick(x));
    }
  }

  drawMark(mark, parent, top, bottom) {
    if (!isShown(mark)) return;
    const x = this.x(mark.x);
    const shapes = {
      save: `M${x} ${bottom + 2}v9`,
      resume: `M${x} ${top}V${bottom + 14}`,
      rollback: `M${x} ${top}V${bottom + 14}`,
      spike: `M${x - 5} ${bottom + 12}l5-10 5 10z`,
      evaluation: `M${x} ${bottom + 2}l5 5-5 5-5-5z`,
    };
    const path = svg("path", { class: `mark ${mark.kind}`, d: shapes[mark.kind] }, parent);
    svg("title", {}, path, `step ${group(mark.step)}: ${markText(mark)}`);
  }

  drawSeries(one, parent) {
    const points = this.visible(one);
    const line = (valueOf) => points.map((point, i) => `${i ? "L" : "M"}${this.x(point.x).toFixed(1)} ${this.y(valueOf(point)).toFixed(1)}`).join("");
    const look = this.look(one);
    const isLine = one.style === "line";
    if (isLine && this.data.noisy && view.smoothing) svg("path", { class: `raw ${look}`, d: line(({ raw, y }) => (this.isLog && raw <= 0 ? y : raw)) }, parent);
    const path = svg("path", { class: `${isLine ? "line" : "link"} ${look}`, d: line(({ y }) => y) }, parent);
    path.dataset.run = runs[one.run].name;
    path.dataset.name = one.name;
    if (isLine && points.length > 1) return;
    for (const { x, y } of points) svg("circle", { class: `dot ${look}`, cx: this.x(x), cy: this.y(y), r: 3.5 }, parent);
  }
}
