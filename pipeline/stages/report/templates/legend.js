// What is above all charts: runs and marks that can be switched off, the axis, smoothing, and the way back from a zoom.
const toggles = document.getElementById("toggles");
const reset = document.getElementById("reset");
const markNames = {
  save: ["checkpoints", "M12 1v10"],
  resume: ["restarts", "M12 0v12"],
  rollback: ["rollbacks", "M12 0v12"],
  spike: ["spikes", "M7 11l5-10 5 10z"],
  evaluation: ["evaluations", "M12 1l5 5-5 5-5-5z"],
};
const drawn = [];
const switches = new Map();

function addSwitch(name, kind, text, keyKind, d) {
  if (switches.has(name)) return;
  const button = toggle(kind, toggles, text, !view.hidden.has(name), (isOn) => setHidden(name, isOn));
  key(button, keyKind, d);
  switches.set(name, button);
}

function drawSwitches() {
  if (runs.length > 1) runs.forEach(({ name }, run) => addSwitch(runKey(run), "run", name, `line c${run % COLOURS}`, "M0 6h24"));
  for (const [kind, [text, d]] of Object.entries(markNames)) {
    if (marks.some((mark) => mark.kind === kind)) addSwitch(markKey({ kind }), "marks", text, `mark ${kind}`, d);
  }
}

function drawAll() {
  reset.disabled = view.zoomed === null;
  drawSwitches();
  for (const data of charts) {
    const found = drawn.find((chart) => chart.data.id === data.id);
    if (found) found.data = data;
    else drawn.push(new Chart(data));
  }
  for (const chart of drawn) chart.draw();
}

reset.addEventListener("click", wholeRun);
document.getElementById("axis").addEventListener("change", (event) => {
  view.axis = event.target.value;
  view.zoomed = view.cursor = null;
  prepare();
  drawAll();
});
document.getElementById("smoothing").addEventListener("input", (event) => {
  view.smoothing = Number(event.target.value);
  prepare();
  drawAll();
});

if (runs.length > 1) view.hidden.add(markKey({ kind: "save" })); // of several runs they are too many to tell apart
prepare();
drawAll();
let width = grid.clientWidth;
new ResizeObserver(() => {
  if (grid.clientWidth === width) return;
  width = grid.clientWidth;
  drawAll();
}).observe(grid);
