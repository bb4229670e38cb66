// The pointer and the keyboard over a chart.
function listen(chart) {
  const { plot } = chart;
  const at = (event) => event.clientX - plot.getBoundingClientRect().left;
  let from = null;
  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    from = at(event);
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => {
    view.cursor = nearest(places, chart.placeAt(at(event)), (x) => x) ?? null;
    drawCursors();
    if (from !== null) drawSpan(chart, ...[from, at(event)].sort((a, b) => a - b));
  });
  plot.addEventListener("pointerup", (event) => {
    if (from === null) return;
    const ends = [from, at(event)].sort((a, b) => a - b);
    from = null;
    if (ends[1] - ends[0] > 6) zoom(...ends.map((x) => chart.placeAt(x)));
    else drawCursors();
  });
  plot.addEventListener("pointercancel", () => { from = null; drawCursors(); });
  plot.addEventListener("pointerleave", () => { if (from === null) { view.cursor = null; drawCursors(); } });
  plot.addEventListener("dblclick", wholeRun);
  plot.addEventListener("keydown", (event) => press(chart, event));
}

function drawSpan(chart, low, high) {
  const { top, bottom } = chart.area;
  svg("rect", { class: "span", x: low, y: top, width: high - low, height: bottom - top }, chart.over);
}

function press(chart, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const [low, high] = shown();
  const inside = places.filter((x) => x >= low && x <= high);
  const at = inside.indexOf(view.cursor);
  const far = event.shiftKey ? 10 : 1;
  const moves = {
    ArrowRight: () => inside[Math.min(inside.length - 1, at + far)],
    ArrowLeft: () => inside[Math.max(0, (at < 0 ? inside.length : at) - far)],
    Home: () => inside[0],
    End: () => inside.at(-1),
  };
  const acts = { "+": () => scale(0.5), "=": () => scale(0.5), "-": () => scale(2), Escape: wholeRun };
  if (event.key in moves) view.cursor = moves[event.key]() ?? null;
  else if (event.key in acts) acts[event.key]();
  else return;
  event.preventDefault();
  drawCursors();
  say(chart);
}
