// Light or dark: as the system says until somebody chooses.

const KEPT = "feedback-theme";
const DARK = window.matchMedia("(prefers-color-scheme: dark)");
const CHANGED = new EventTarget();

function chosen() {
  return localStorage.getItem(KEPT) ?? (DARK.matches ? "dark" : "light");
}

function show(button) {
  const theme = chosen();
  document.documentElement.dataset.theme = theme;
  button.textContent = theme === "dark" ? "Light" : "Dark";
  button.setAttribute("aria-label", `Switch to ${theme === "dark" ? "light" : "dark"} colours`);
  CHANGED.dispatchEvent(new Event("theme"));
}

export function startTheme(button) {
  button.addEventListener("click", () => {
    localStorage.setItem(KEPT, chosen() === "dark" ? "light" : "dark");
    show(button);
  });
  DARK.addEventListener("change", () => show(button));
  show(button);
}

export function onTheme(listener) {
  CHANGED.addEventListener("theme", listener);
}

/** A colour of the style sheet by its name. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
