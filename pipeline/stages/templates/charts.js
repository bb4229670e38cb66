"use strict";
// All charts share the axis of steps, the zoom and the cursor. Text is only ever set as text, never as markup.
const { charts, marks } = JSON.parse(document.getElementById("data").textContent);
const grid = document.getElementById("chart-grid");
const reset = document.getElementById("reset");
const live = document.getElementById("live");

const allSteps = [...new Set(charts.flatMap((chart) => chart.series.flatMap((one) => one.points.map(([step]) => step))))]
  .sort((a, b) => a - b);
const whole = [Math.min(0, allSteps[0] ?? 0), Math.max(allSteps.at(-1) ?? 1, 1)];
let shown = [...whole];
let cursor = null; // a step, or null

function svg(name, attributes, parent, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent?.append(element);
  return element;
}

function html(name, kind, parent, text) {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  if (text !== undefined) element.textContent = text;
  parent?.append(element);
  return element;
}

// Numbers

const group = (value) => Math.round(value).toLocaleString("en-US");

function scaled(value) {
  for (const [factor, unit] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
    if (Math.abs(value) >= factor) return `${Number((value / factor).toPrecision(3))}${unit}`;
  }
  return `${Number(value.toPrecision(3))}`;
}

function exponential(value) {
  if (value === 0) return "0";
  const [digits, power] = value.toExponential(2).split("e");
  return `${Number(digits)}e${Number(power)}`;
}

const formats = {
  fixed: (value) => (Math.abs(value) >= 1000 ? scaled(value) : value.toPrecision(4)),
  scientific: exponential,
  si: scaled,
  percent: (value) => `${Number((100 * value).toPrecision(3))} %`,
};

function tickText(form, value, spacing) {
  if (form !== "fixed") return formats[form](value);
  return value.toFixed(Math.max(0, -Math.floor(Math.log10(spacing) + 1e-9)));
}

// About `count` round values from low to high, and the distance between them.
function ticks(low, high, count) {
  const rough = Math.max(high - low, 1e-12) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const spacing = power * ([1, 2, 5].find((factor) => factor * power >= rough * 0.999) ?? 10);
  const values = [];
  for (let i = Math.ceil(low / spacing - 1e-9); i * spacing <= high + spacing * 1e-9; i += 1) values.push(i * spacing || 0); // not -0
  return [values, spacing];
}

// The item of a sorted list that is nearest to a step.
function nearest(sorted, step, stepOf) {
  let low = 0;
  let high = sorted.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (stepOf(sorted[middle]) < step) low = middle;
    else high = middle;
  }
  if (high < 0) return undefined;
  return step - stepOf(sorted[low]) <= stepOf(sorted[high]) - step ? sorted[low] : sorted[high];
}

// Drawing

class Chart {
  constructor(data) {
    this.data = data;
    this.box = html("div", "chart", grid);
    const title = html("h3", "", this.box, data.title);
    html("span", "", title, data.unit);
    this.read = html("p", "read", this.box);
    this.plot = svg("svg", { class: "plot", tabindex: 0, role: "group", "aria-roledescription": "chart" }, this.box);
    this.plot.setAttribute("aria-label", `${data.title} by step`);
    this.plot.setAttribute("aria-describedby", "help");
    this.clip = `clip-${data.id}`;
    this.listen();
  }

  get isEmpty() {
    return this.data.series.every((one) => one.points.length === 0);
  }

  // Visible points, with the neighbours just outside so that lines run to the edge.
  visible(points) {
    const first = points.findIndex(([step]) => step >= shown[0]);
    const after = points.findIndex(([step]) => step > shown[1]);
    return first < 0 ? points.slice(-1) : points.slice(Math.max(0, first - 1), after < 0 ? undefined : after + 1);
  }

  layout() {
    const wide = this.box === grid.firstElementChild;
    const labels = this.data.series.length > 1 && grid.clientWidth > 560;
    this.size = { width: this.box.clientWidth, height: wide ? 320 : 200 };
    this.area = { left: 48, right: this.size.width - (labels ? 78 : 14), top: 8, bottom: this.size.height - 38 };
    this.labels = labels;
    const values = this.data.series.flatMap((one) => this.visible(one.points).map(([, value]) => value));
    const low = this.data.id === "loss" ? Math.min(...values) : Math.min(0, ...values);
    const high = Math.max(...values);
    const pad = (high - low || Math.abs(high) || 1) * 0.06;
    this.range = [low === 0 ? 0 : low - pad, high + pad];
  }

  x(step) {
    return this.area.left + ((step - shown[0]) / (shown[1] - shown[0])) * (this.area.right - this.area.left);
  }

  y(value) {
    const [low, high] = this.range;
    return this.area.bottom - ((value - low) / (high - low)) * (this.area.bottom - this.area.top);
  }

  stepAt(x) {
    const share = (x - this.area.left) / (this.area.right - this.area.left);
    return shown[0] + Math.min(1, Math.max(0, share)) * (shown[1] - shown[0]);
  }

  draw() {
    if (this.isEmpty) {
      this.read.textContent = "None yet.";
      this.plot.remove();
      return;
    }
    this.layout();
    const { width, height } = this.size;
    this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.plot.setAttribute("height", height);
    this.plot.replaceChildren();
    this.drawAxes();
    const clip = svg("clipPath", { id: this.clip }, this.plot);
    const { left, right, top, bottom } = this.area;
    svg("rect", { x: left - 5, y: 0, width: right - left + 10, height: bottom + 16 }, clip);
    const inside = svg("g", { "clip-path": `url(#${this.clip})` }, this.plot);
    for (const mark of marks) this.drawMark(mark, inside, top, bottom);
    this.data.series.forEach((one, index) => this.drawSeries(one, index, inside));
    if (this.labels) this.drawLabels();
    this.over = svg("g", {}, this.plot);
    this.drawCursor();
  }

  drawAxes() {
    const { left, right, top, bottom } = this.area;
    const [values, spacing] = ticks(...this.range, (bottom - top) / 48);
    for (const value of values) {
      const y = this.y(value);
      svg("path", { class: "grid", d: `M${left} ${y}H${right}` }, this.plot);
      svg("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, this.plot, tickText(this.data.format, value, spacing));
    }
    svg("path", { class: "axis", d: `M${left} ${bottom}H${right}` }, this.plot);
    for (const step of ticks(...shown, Math.max(2, (right - left) / 85))[0]) {
      if (!Number.isInteger(step)) continue;
      svg("text", { x: this.x(step), y: bottom + 30, "text-anchor": "middle" }, this.plot, group(step));
    }
  }

  drawMark({ kind, step, text }, parent, top, bottom) {
    const x = this.x(step);
    const shapes = {
      save: `M${x} ${bottom + 2}v9`,
      resume: `M${x} ${top}V${bottom + 14}`,
      evaluation: `M${x} ${bottom + 2}l5 5-5 5-5-5z`,
    };
    const path = svg("path", { class: `mark ${kind}`, d: shapes[kind] }, parent);
    svg("title", {}, path, `step ${group(step)}: ${text}`);
  }

  drawSeries(one, index, parent) {
    const points = this.visible(one.points);
    const d = points.map(([step, value], i) => `${i ? "L" : "M"}${this.x(step).toFixed(1)} ${this.y(value).toFixed(1)}`);
    svg("path", { class: `${one.style === "line" ? "line" : "link"} s${index}`, d: d.join("") }, parent);
    if (one.style === "line" && points.length > 1) return;
    for (const [step, value] of points) svg("circle", { class: `dot s${index}`, cx: this.x(step), cy: this.y(value), r: 3.5 }, parent);
  }

  // Names at the right end of their lines, moved apart where they would meet.
  drawLabels() {
    const ends = this.data.series
      .map((one, index) => ({ name: one.name, index, last: this.visible(one.points).filter(([step]) => step <= shown[1]).at(-1) }))
      .filter((end) => end.last)
      .map((end) => ({ ...end, y: this.y(end.last[1]) + 4 }))
      .sort((a, b) => a.y - b.y);
    ends.forEach((end, i) => {
      if (i && end.y - ends[i - 1].y < 14) end.y = ends[i - 1].y + 14;
    });
    const overrun = Math.max(0, (ends.at(-1)?.y ?? 0) - this.area.bottom);
    for (const end of ends) {
      svg("text", { class: `s${end.index}`, x: this.area.right + 8, y: end.y - overrun }, this.plot, end.name);
    }
  }

  // What the chart says at the cursor, or at the last step shown.
  reading() {
    const at = cursor ?? shown[1];
    const parts = [];
    for (const one of this.data.series) {
      const point = nearest(one.points, at, ([step]) => step);
      if (point) parts.push({ name: one.name, step: point[0], value: formats[this.data.format](point[1]), y: point[1] });
    }
    return parts;
  }

  drawCursor() {
    if (this.isEmpty) return;
    this.over.replaceChildren();
    const parts = this.reading();
    this.read.replaceChildren();
    parts.forEach((part, i) => {
      const name = this.data.series.length > 1 ? `${part.name} ` : "";
      this.read.append(i === 0 ? `step ${group(part.step)}   ${name}` : `   ${name}`);
      html("b", "", this.read, part.value);
      if (i && part.step !== parts[0].step) this.read.append(` at step ${group(part.step)}`);
    });
    if (cursor === null) return;
    const x = this.x(cursor);
    svg("path", { class: "cursor", d: `M${x} ${this.area.top}V${this.area.bottom}` }, this.over);
    parts.forEach((part, index) => {
      if (part.step < shown[0] || part.step > shown[1]) return;
      svg("circle", { class: `dot s${index}`, cx: this.x(part.step), cy: this.y(part.y), r: 4.5 }, this.over);
    });
    const near = marks.filter(({ step }) => Math.abs(this.x(step) - x) < 4).map(({ text }) => text);
    if (near.length) this.read.append(`   ${[...new Set(near)].join(", ")}`);
  }

  // Input

  listen() {
    let from = null;
    const place = (event) => event.clientX - this.plot.getBoundingClientRect().left;
    const finish = (event) => {
      if (from === null) return;
      const to = place(event);
      if (Math.abs(to - from) > 6) zoom(...[this.stepAt(from), this.stepAt(to)].sort((a, b) => a - b));
      else drawCursors();
      from = null;
    };
    this.plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = place(event);
      this.plot.setPointerCapture(event.pointerId);
    });
    this.plot.addEventListener("pointermove", (event) => {
      cursor = nearest(allSteps, this.stepAt(place(event)), (step) => step) ?? null;
      drawCursors();
      if (from === null) return;
      const [low, high] = [from, place(event)].sort((a, b) => a - b);
      const { top, bottom } = this.area;
      svg("rect", { class: "span", x: low, y: top, width: high - low, height: bottom - top }, this.over);
    });
    this.plot.addEventListener("pointerup", finish);
    this.plot.addEventListener("pointercancel", () => { from = null; drawCursors(); });
    this.plot.addEventListener("pointerleave", () => { if (from === null) { cursor = null; drawCursors(); } });
    this.plot.addEventListener("dblclick", () => zoom(...whole));
    this.plot.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const inside = allSteps.filter((step) => step >= shown[0] && step <= shown[1]);
    const at = inside.indexOf(cursor);
    const far = event.shiftKey ? 10 : 1;
    const moves = {
      ArrowRight: () => inside[Math.min(inside.length - 1, at + far)],
      ArrowLeft: () => inside[Math.max(0, (at < 0 ? inside.length : at) - far)],
      Home: () => inside[0],
      End: () => inside.at(-1),
    };
    if (event.key in moves) cursor = moves[event.key]() ?? null;
    else if (event.key === "+" || event.key === "=") scale(0.5);
    else if (event.key === "-") scale(2);
    else if (event.key === "Escape") zoom(...whole);
    else return;
    event.preventDefault();
    drawCursors();
    live.textContent = `${this.data.title}, ${this.read.textContent}`;
  }
}

const drawn = charts.map((data) => new Chart(data));
const drawCursors = () => drawn.forEach((chart) => chart.drawCursor());

function drawAll() {
  reset.disabled = shown[0] === whole[0] && shown[1] === whole[1];
  drawn.forEach((chart) => chart.draw());
}

function zoom(low, high) {
  shown = [Math.max(whole[0], low), Math.min(whole[1], high)];
  if (shown[1] - shown[0] < 1) shown = [Math.max(whole[0], shown[1] - 1), Math.min(whole[1], shown[0] + 1)];
  drawAll();
}

// Zoom in or out around the cursor.
function scale(factor) {
  const middle = cursor ?? (shown[0] + shown[1]) / 2;
  zoom(middle - (middle - shown[0]) * factor, middle + (shown[1] - middle) * factor);
}

reset.addEventListener("click", () => zoom(...whole));
new ResizeObserver(drawAll).observe(grid);
