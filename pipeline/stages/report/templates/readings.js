// What a chart says at the cursor, or at the last place shown: in its legend, and in the line above it.
function readings(chart) {
  const at = view.cursor ?? shown()[1];
  return chart.series.map((one) => ({ one, point: nearest(one.drawn, at, ({ x }) => x) })).filter(({ point }) => point);
}

// What a series is called where all of a chart's are: by run and name, as far as these tell it from others.
function label(chart, one) {
  if (runs.length === 1) return one.name;
  const isOnly = chart.data.series.every(({ name }) => name === one.name);
  return isOnly ? runs[one.run].name : `${runs[one.run].name} ${one.name}`;
}

// A button for each series: it says its value and switches it off.
function drawLegend(chart) {
  chart.legend.hidden = chart.data.series.length < 2;
  for (const one of chart.data.series) {
    const name = seriesKey(chart.data, one);
    if (!chart.buttons.has(name)) chart.buttons.set(name, seriesButton(chart, one));
    const button = chart.buttons.get(name);
    button.setAttribute("aria-pressed", !view.hidden.has(name));
    button.hidden = view.hidden.has(runKey(one.run));
  }
}

function seriesButton(chart, one) {
  const act = (isOn) => setHidden(seriesKey(chart.data, one), isOn);
  const button = toggle("series", chart.legend, label(chart, one), true, act);
  key(button, `line ${chart.look(one)}`, "M0 6h24");
  html("b", "", button);
  return button;
}

function drawCursor(chart) {
  chart.over.replaceChildren();
  const found = readings(chart);
  const value = (point) => formats[chart.data.format](point.y);
  for (const button of chart.buttons.values()) button.lastChild.textContent = "";
  for (const { one, point } of found) {
    const button = chart.buttons.get(seriesKey(chart.data, one));
    if (button) button.lastChild.textContent = value(point);
  }
  chart.read.textContent = chart.isEmpty ? "None yet." : axisText[view.axis].read(view.cursor ?? shown()[1]);
  if (chart.data.series.length === 1 && found.length) {
    chart.read.append("   ");
    html("b", "", chart.read, value(found[0].point));
  }
  if (view.cursor === null) return;
  const x = chart.x(view.cursor);
  const { top, bottom } = chart.area;
  svg("path", { class: "cursor", d: `M${x} ${top}V${bottom}` }, chart.over);
  for (const { one, point } of found) drawPoint(chart, one, point);
  const near = marks.filter((mark) => isShown(mark) && Math.abs(chart.x(mark.x) - x) < 4);
  if (near.length) chart.read.append(`   ${[...new Set(near.map(markText))].join(", ")}`);
}

const isShown = (mark) => !view.hidden.has(markKey(mark)) && !view.hidden.has(runKey(mark.run));
const markText = ({ run, text }) => (runs.length > 1 ? `${runs[run].name} ${text}` : text);

function drawPoint(chart, one, point) {
  const [low, high] = shown();
  if (point.x < low || point.x > high || (chart.isLog && point.y <= 0)) return;
  svg("circle", { class: `dot ${chart.look(one)}`, cx: chart.x(point.x), cy: chart.y(point.y), r: 4.5 }, chart.over);
}

const drawCursors = () => drawn.forEach((chart) => drawCursor(chart));

// Where the cursor went, for those who do not see it.
function say(chart) {
  const values = readings(chart).map(({ one, point }) => `${label(chart, one)} ${formats[chart.data.format](point.y)}`);
  document.getElementById("said").textContent = `${chart.data.title}, ${chart.read.textContent}: ${values.join(", ")}`;
}
