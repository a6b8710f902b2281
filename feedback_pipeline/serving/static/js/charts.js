// Charts by Apache ECharts, each with a sentence that says what it shows and its numbers as a table.

import { h } from "./dom.js";
import { table } from "./table.js";
import { colour, onTheme } from "./theme.js";

// What is drawn, by its place; a figure that never comes to the page is held by nobody.
const planned = new WeakMap();
const drawn = new Map();
const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => draw(target)));

/**
 * A figure. `option(colours, width)` is the ECharts option, in the colours of the page and for its width in pixels; `columns` and
 * `rows` are its numbers. `settle` draws it, since a chart needs its width.
 */
export function figure({ title, summary, height = 280, option, columns, rows }) {
  const place = h("div", { class: "chart", style: `height:${height}px`, role: "img", "aria-label": `${title}. ${summary}` });
  planned.set(place, option);
  return h("figure", {},
    h("figcaption", {}, title),
    h("p", { class: "soft small" }, summary),
    place,
    h("details", {}, h("summary", {}, "Numbers as a table"), table(columns, rows, { caption: title })));
}

/** Draws the figures that have come to the page, and lets go of those that left it. */
export function settle(view) {
  for (const [place, { chart }] of drawn) {
    if (place.isConnected) continue;
    sizes.unobserve(place);
    chart.dispose();
    drawn.delete(place);
  }
  view.querySelectorAll(".chart").forEach((place) => sizes.observe(place));
}

function draw(place) {
  const width = place.clientWidth;
  if (width === 0 || width === drawn.get(place)?.width) return;
  const chart = drawn.get(place)?.chart ?? window.echarts.init(place, null, { renderer: "svg" });
  const drawing = { chart, option: planned.get(place), width };
  drawn.set(place, drawing);
  chart.resize();
  paint(drawing);
}

function paint(drawing) {
  const colours = Object.fromEntries(["ink", "soft", "line", "sheet", "accent", "bad", "mark", "tint"].map((name) => [name, colour(name)]));
  drawing.chart.setOption({
    animation: false,
    // By its name: the library measures texts outside the page, where nothing is inherited.
    textStyle: { color: colours.ink, fontFamily: getComputedStyle(document.body).fontFamily },
    tooltip: { backgroundColor: colours.sheet, borderColor: colours.line, textStyle: { color: colours.ink }, confine: true },
    ...drawing.option(colours, drawing.width),
  }, true);
}

onTheme(() => {
  drawn.forEach(paint);
});

/** An axis in the colours of the page. */
export function axis(colours, name, more = {}) {
  return {
    type: "value",
    name,
    nameLocation: "middle",
    nameGap: 28,
    nameTextStyle: { color: colours.soft },
    axisLabel: { color: colours.soft, hideOverlap: true, ...more.axisLabel },
    axisLine: { show: true, lineStyle: { color: colours.line } },
    splitLine: { lineStyle: { color: colours.line, opacity: 0.6 } },
    scale: true,
    ...without(more, "axisLabel"),
  };
}

function without(object, name) {
  return Object.fromEntries(Object.entries(object).filter(([key]) => key !== name));
}

/** What a point says when pointed at: an element, so names stay text. */
export function said(...lines) {
  return h("div", {}, lines.filter(Boolean).map((line) => h("div", {}, line)));
}

/** A dashed line at a value of an axis ("xAxis" or "yAxis"). */
export function reference(colours, name, value) {
  return {
    silent: true,
    symbol: "none",
    label: { show: false },
    lineStyle: { color: colours.soft, type: "dashed", width: 1 },
    data: [{ [name]: value }],
  };
}
