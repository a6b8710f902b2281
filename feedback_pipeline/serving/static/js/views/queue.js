// What to read first, and how many reviews could be spared at a stated risk.

import { get } from "../api.js";
import { badge, h, sheet } from "../dom.js";
import { count, DASH, number, percent, plural } from "../format.js";
import { table } from "../table.js";

const LENGTHS = [10, 20, 50, 100];

export const title = "Queue";

export async function show() {
  const status = await get("agents", { limit: 1 });
  const head = h("div", { class: "head" }, h("h1", { tabindex: "-1" }, title));
  if (status.champion === null) return [head, sheet("No model yet", h("p", {}, "The queue is in the order of forecasts. A model is trained by itself once there are enough scored reviews."))];
  const [queue, whatIf] = await Promise.all([get("queue", { limit: LENGTHS[1] }), get("autoapproval")]);
  return [head, reading(queue), sparing(whatIf)];
}

function reading(first) {
  const list = h("div", {}, listed(first));
  let asked = 0;
  const change = async ({ target }) => {
    const ticket = ++asked;
    const answer = await get("queue", { limit: target.value }).then(listed, (problem) => h("p", { class: "bad", role: "alert" }, problem.message));
    if (ticket === asked) list.replaceChildren(answer);
  };
  const choice = h("select", { change }, LENGTHS.map((length) => h("option", { value: length, selected: length === LENGTHS[1] }, count(length))));
  return sheet("What to read first",
    h("p", { class: "soft" }, `${plural(first.n_outputs, "output")} without a review. The least likely approvals come first; ${percent(first.random_share)} of the places are drawn at random, so that the forecasts can be checked.`),
    h("form", { submit: (event) => event.preventDefault() }, h("label", {}, "Outputs", choice)),
    list);
}

function listed({ queue, reason }) {
  if (queue.length === 0) return h("p", {}, reason ?? "Nothing waits for a review.");
  return table([
    { name: "Place", number: true, cell: (row) => count(row.place) },
    { name: "Agent", cell: (row) => h("a", { href: `#/agents/${encodeURIComponent(row.agent_name)}` }, row.agent_name), sort: (row) => row.agent_name },
    { name: "Execution", cell: (row) => h("code", {}, row.execution_id) },
    { name: "P(approve)", number: true, cell: (row) => percent(row.p_approve), sort: (row) => row.p_approve },
    { name: "Expected score", number: true, cell: (row) => `${number(row.score, 1)} (${number(row.low, 1)} to ${number(row.high, 1)})`, sort: (row) => row.score },
    { name: "Why here", cell: (row) => [badge(row.why), row.reason ? h("div", { class: "small soft" }, row.reason) : null] },
  ], queue, { caption: "In the order of reading; the interval is the one in which 90 % of such reviews lie." });
}

function sparing({ risks, n_outputs: outputs, n_abstained: abstained, confidence, audit_rule: rule }) {
  const told = h("div", { "aria-live": "polite" });
  const tell = (risk) => told.replaceChildren(h("p", {}, inWords(risk, confidence)));
  const chosen = risks.find((risk) => risk.threshold !== null) ?? risks[0];
  tell(chosen);
  return sheet("What if the surest were approved unread?",
    h("p", { class: "soft" }, `From ${plural(outputs, "output")} that were forecast first and decided later${abstained ? ` (${count(abstained)} of them would always be read: their forecast abstains)` : ""}. It approves nothing.`),
    h("fieldset", {}, h("legend", {}, "Rejects among the approved, at most"), risks.map((risk) =>
      h("label", {}, h("input", { type: "radio", name: "alpha", checked: risk === chosen, change: () => tell(risk) }), percent(risk.alpha)))),
    told,
    table([
      { name: "Risk", number: true, cell: (risk) => percent(risk.alpha) },
      { name: "Approve from", number: true, cell: (risk) => percent(risk.threshold, 1) },
      { name: "Reviews spared", number: true, cell: (risk) => percent(risk.spared) },
      { name: "Rejects among them", number: true, cell: (risk) => percent(risk.rejected, 1) },
      { name: "At most", number: true, cell: (risk) => percent(risk.upper, 1) },
      { name: "Remark", cell: (risk) => risk.reason ?? DASH },
    ], risks, { caption: `"At most" holds with a confidence of ${percent(confidence)}.` }),
    h("p", { class: "soft small" }, rule));
}

function inWords(risk, confidence) {
  if (risk.threshold === null) return `At ${percent(risk.alpha)} nothing could be spared: ${risk.reason ?? "no threshold passes"}.`;
  return `Approving where P(approve) is ${percent(risk.threshold, 1)} or more would spare ${percent(risk.spared)} of the reviews. Of ${plural(risk.n_approved, "such output")} people rejected ${percent(risk.rejected, 1)}; with ${percent(confidence)} confidence it is at most ${percent(risk.upper, 1)}.`;
}
