// Elements. Text is only ever set as text, never as markup.
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

// A button that switches something on and off; `act` gets whether it is on now.
function toggle(kind, parent, text, isOn, act) {
  const button = html("button", `toggle ${kind}`, parent);
  button.type = "button";
  html("span", "", button, text);
  button.setAttribute("aria-pressed", isOn);
  button.addEventListener("click", () => {
    const now = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", now);
    act(now);
  });
  return button;
}

// What stands before the name of a line or a mark: a drawing of 24 by 12.
function key(button, kind, d) {
  const drawing = svg("svg", { class: "key", viewBox: "0 0 24 12", "aria-hidden": "true" });
  svg("path", { class: kind, d }, drawing);
  button.prepend(drawing);
}
