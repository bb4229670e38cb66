"use strict";
// Colours: as the system, light, dark.
const theme = document.getElementById("theme");
const themes = ["auto", "light", "dark"];

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  theme.textContent = name[0].toUpperCase() + name.slice(1);
  theme.setAttribute("aria-label", `Colours: ${name === "auto" ? "as the system" : name}`);
}

theme.addEventListener("click", () => {
  setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % themes.length]);
});
