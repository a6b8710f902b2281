// Elements out of data. Text becomes text nodes, never markup: whatever a reviewer wrote stays what it is.

const SVG = "http://www.w3.org/2000/svg";

/** An element; attributes that are functions listen to events, null ones are left out, children may be nested lists. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A link to a page of the web in a tab of its own; plain text where the address is none of the web. */
export function outside(address, text) {
  if (!/^https?:\/\//i.test(address ?? "")) return h("span", {}, text);
  return h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, text, h("span", { "aria-hidden": "true" }, " ↗"));
}

/** A part of a view under a heading of its own. */
export function sheet(title, ...children) {
  return h("section", { class: "sheet" }, h("h2", {}, title), ...children);
}

/** A word in a frame; tone: good, bad, unsure or none. */
export function badge(text, tone = "") {
  return h("span", { class: `badge ${tone}` }, text);
}

const TONES = { active: "good", probation: "unsure" };

/** The state of a trial. */
export function stateOf({ state }) {
  return badge(state, TONES[state]);
}

/** What a trial is of, in words: a question to a reviewer has no text, since it would name them. */
export function nameOf({ text }) {
  return text ?? "a question to a reviewer";
}

/** Numbers with names, as tiles: [name, figure, more]. */
export function tiles(entries) {
  return h("dl", { class: "tiles" }, entries.map(([name, figure, more]) =>
    h("div", { class: "tile" }, h("dt", {}, name), h("dd", { class: "figure" }, figure), more ? h("dd", { class: "soft small" }, more) : null)));
}
