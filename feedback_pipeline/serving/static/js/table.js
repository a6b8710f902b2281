// Tables that sort by a click on a heading and become cards on a phone.

import { h } from "./dom.js";

/**
 * columns: [{name, cell(row), sort(row)?, number?}]; a column with `sort` can be sorted by.
 * options: {caption, cards, most}: `cards` = cards on a phone; at first only `most` rows are shown.
 */
export function table(columns, rows, { caption, cards = true, most = 100 } = {}) {
  let shown = rows, ascending = true, by = null, all = false;
  // The roles are said aloud: as cards, a table would lose them.
  const body = h("tbody", { role: "rowgroup" });
  const more = h("button", { type: "button", class: "quiet", click: () => { all = true; fill(); } });
  const headings = columns.map((column) =>
    h("th", { scope: "col", role: "columnheader", class: column.number ? "number" : null },
      column.sort ? h("button", { type: "button", click: () => sort(column) }, column.name) : column.name));

  function sort(column) {
    ascending = by === column ? !ascending : !column.number;
    by = column;
    headings.forEach((heading, at) => {
      if (columns[at] === by) heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      else heading.removeAttribute("aria-sort");
    });
    shown = [...rows].sort((a, b) => compared(column.sort(a), column.sort(b), ascending));
    fill();
  }

  function fill() {
    const part = all ? shown : shown.slice(0, most);
    body.replaceChildren(...part.map((row) => h("tr", { role: "row" }, columns.map((column) =>
      h("td", { role: "cell", class: column.number ? "number" : null, "data-name": column.name }, column.cell(row))))));
    more.textContent = `Show all ${shown.length}`;
    more.hidden = part.length === shown.length;
  }

  fill();
  const grid = h("table", { role: "table", class: cards ? "cards" : null },
    caption ? h("caption", {}, caption) : null, h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, headings)), body);
  return h("div", {}, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption ?? "Table" }, grid), more);
}

/** What is missing comes last either way. */
function compared(a, b, ascending) {
  const [lacksA, lacksB] = [a, b].map((value) => value === null || value === undefined);
  if (lacksA || lacksB) return lacksA - lacksB;
  return (ascending ? 1 : -1) * (typeof a === "string" ? a.localeCompare(b) : a - b);
}
