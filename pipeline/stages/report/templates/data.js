// What is shown. All charts share the axis, the zoom, the cursor and what is switched off.
let { runs, charts, marks } = JSON.parse(document.getElementById("data").textContent);
const isLive = JSON.parse(document.getElementById("data").textContent).live;
const view = {
  axis: "step",
  zoomed: null, // [low, high] on the axis, or null for all
  cursor: null, // a place on the axis, or null
  smoothing: 0,
  hidden: new Set(),
};
const columns = { step: 0, tokens: 1, time: 2 };
const axisText = {
  step: { tick: group, read: (x) => `step ${group(x)}` },
  tokens: { tick: scaled, read: (x) => `${scaled(x)} tokens` },
  time: { tick: clock, read: (x) => `after ${clock(x)}` },
};
let places = []; // all places of points, in order
let whole = [0, 1];

const seriesKey = (chart, one) => JSON.stringify(["series", chart.id, runs[one.run].name, one.name]);
const runKey = (run) => `run ${runs[run].name}`;
const markKey = (mark) => `mark ${mark.kind}`;
const shown = () => view.zoomed ?? whole;

function setHidden(name, isOn) {
  if (isOn) view.hidden.delete(name);
  else view.hidden.add(name);
  drawAll();
}

// Where a step of a run is on the axis; between two rows that say so, proportionally.
function place(run, step) {
  const column = columns[view.axis];
  const { axis } = runs[run];
  if (column === 0 || !axis.length) return step;
  const index = below(axis, step, (row) => row[0]);
  if (index === axis.length) return axis.at(-1)[column];
  const before = axis[index - 1] ?? [0, 0, 0];
  const after = axis[index];
  const share = (step - before[0]) / (after[0] - before[0] || 1);
  return before[column] + share * (after[column] - before[column]);
}

// Points of a series on the axis. A smoothed one is the exponential mean, freed from its beginning at zero.
function placed(chart, one) {
  const keep = chart.noisy && one.style === "line" ? view.smoothing : 0;
  let sum = 0;
  let weight = 0;
  return one.points.map(([step, value]) => {
    sum = keep * sum + (1 - keep) * value;
    weight = keep * weight + (1 - keep);
    return { step, x: place(one.run, step), raw: value, y: sum / weight };
  });
}

function prepare() {
  for (const chart of charts) for (const one of chart.series) one.drawn = placed(chart, one);
  for (const mark of marks) mark.x = place(mark.run, mark.step);
  const all = charts.flatMap((chart) => chart.series.flatMap((one) => one.drawn.map(({ x }) => x)));
  places = [...new Set(all)].sort((a, b) => a - b);
  whole = [Math.min(0, places[0] ?? 0), Math.max(places.at(-1) ?? 1, view.axis === "step" ? 1 : 1e-3)];
}

function zoom(low, high) {
  const least = view.axis === "step" ? 1 : (whole[1] - whole[0]) / 10000;
  const middle = Math.min(whole[1] - least / 2, Math.max(whole[0] + least / 2, (low + high) / 2));
  const half = Math.max(high - low, least) / 2;
  const next = high - low < least ? [middle - half, middle + half] : [low, high];
  const [from, to] = [Math.max(whole[0], next[0]), Math.min(whole[1], next[1])];
  view.zoomed = from <= whole[0] && to >= whole[1] ? null : [from, to];
  drawAll();
}

function wholeRun() {
  view.zoomed = null;
  drawAll();
}

// Zoom in or out around the cursor.
function scale(factor) {
  const [low, high] = shown();
  const middle = view.cursor ?? (low + high) / 2;
  zoom(middle - (middle - low) * factor, middle + (high - middle) * factor);
}
