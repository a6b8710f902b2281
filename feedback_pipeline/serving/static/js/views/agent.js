// One agent: what it should do differently and on what evidence, what applying it brings, how forecasts fared.

import { get, whole } from "../api.js";
import { badge, h, nameOf, sheet, stateOf } from "../dom.js";
import { between, certainty, count, DASH, number, percent, plural, points, signed, words } from "../format.js";
import { calibration, forest, sequence, threshold, weekly } from "../pictures.js";
import { table } from "../table.js";
import { byWeek } from "../weeks.js";

const FLEET = "*";
const TOGETHER = "All agents together";
const MOST_FINDINGS = 12;
const MOST_CURVES = 6;
const MOST_SEQUENCES = 6;

export const title = "Agent";

export async function show({ argument }) {
  const status = await whole("agents", "agents");
  const known = status.agents.map((agent) => agent.agent_name);
  if (known.length === 0) return [heading(title), sheet("No agent has been reviewed yet", h("p", {}, "As soon as there are reviews, every agent has a page here."))];
  if (argument === FLEET) return fleet(known, status);
  const name = argument ?? known[0];
  const agent = status.agents.find((one) => one.agent_name === name);
  if (!agent) return [heading(title, chooser(known, null)), sheet("No such agent", h("p", {}, `No agent goes by the name ${name}.`))];
  const head = heading(name, chooser(known, name));
  if (agent.status === null) return [head, sheet("Not learned from yet", h("p", {}, `${plural(agent.pending, "review")} wait for the next learning pass.`))];
  const path = encodeURIComponent(name);
  const [improvements, correlations, patterns, effects, weeks, outcomes] = await Promise.all([
    get(`agents/${path}/improvements`),
    whole(`correlations/${path}`, "findings"),
    whole(`agents/${path}/patterns`, "patterns"),
    whole("effectiveness", "trials", { agent: name }),
    whole("feedback/analytics", "weeks", { agent: name, weeks: 26 }),
    get("forecasts/outcomes", { agent: name, limit: 20 }),
  ]);
  return [
    head,
    h("ul", { class: "facts" }, [
      plural(agent.n_contents, "reviewed output"),
      plural(agent.n_reviewers, "reviewer"),
      `${plural(agent.pending, "review")} waiting`,
      agent.reason,
    ].filter(Boolean).map((fact) => h("li", {}, fact))),
    recommendations(improvements, agent),
    effectsSheet(effects.trials),
    course(weeks.weeks),
    findings(correlations.findings),
    curves(patterns.patterns),
    patternTable(patterns.patterns),
    forecasts(outcomes),
  ];
}

/** What holds over all agents; nobody applies it as such, so it has no recommendations and no effects. */
async function fleet(known, { last_run: run }) {
  const head = heading(TOGETHER, chooser(known, FLEET));
  if (run === null) return [head, sheet("Not learned from yet", h("p", {}, "This is filled by the first learning pass."))];
  const [correlations, patterns, outcomes] = await Promise.all([
    whole(`correlations/${FLEET}`, "findings"),
    whole(`agents/${FLEET}/patterns`, "patterns"),
    get("forecasts/outcomes", { limit: 20 }),
  ]);
  return [head, findings(correlations.findings), curves(patterns.patterns), patternTable(patterns.patterns), forecasts(outcomes)];
}

function heading(name, ...more) {
  return h("div", { class: "head" }, h("h1", { tabindex: "-1" }, name), more);
}

function chooser(names, chosen) {
  const options = [[FLEET, TOGETHER], ...names.map((name) => [name, name])].map(([value, text]) => h("option", { value, selected: value === chosen }, text));
  if (chosen === null) options.unshift(h("option", { value: "", selected: true }, "choose"));
  return h("label", {}, "Agent", h("select", { change: ({ target }) => { location.hash = `#/agents/${encodeURIComponent(target.value)}`; } }, options));
}

function recommendations({ recommendations: advice }, { parts }) {
  if (advice.length === 0) return sheet("Recommendations",
    h("p", {}, "Nothing is certain enough to be recommended: a recommendation needs strong evidence, so most agents have few or none."),
    parts.recommendations?.reason ? h("p", { class: "soft small" }, parts.recommendations.reason) : null);
  return sheet("Recommendations", h("ol", { class: "advice" }, advice.map((one) => h("li", {},
    told(one.text),
    h("ul", { class: "facts" }, [
      stateOf(one.trial),
      `confidence ${certainty(one.confidence)}`,
      `${plural(one.evidence.n_contents, "output")}, ${plural(one.evidence.n_reviewers, "reviewer")}`,
      one.trial.uplift === null ? null : `measured ${points(one.trial.uplift)} (${between(...one.trial.ci)}) in ${plural(one.trial.n, "execution")}`,
      one.trial.p_on > 0 ? `applied in ${percent(one.trial.p_on)} of executions` : null,
    ].filter(Boolean).map((fact) => h("li", {}, fact))),
    one.trial.reason ? h("p", { class: "soft small" }, one.trial.reason) : null,
    one.conflicts.length ? h("p", { class: "small unsure" }, "To be weighed: ", one.conflicts.join("; "), ".") : null))));
}

/** What to do, then what it is expected to bring. */
function told(text) {
  const [what, ...why] = text.split(": ");
  return h("p", {}, h("strong", {}, what), why.length ? `: ${why.join(": ")}` : null);
}

function effectsSheet(trials) {
  if (trials.length === 0) return null;
  const ordered = trials.filter((trial) => trial.n + trial.n_waiting > 0).sort((a, b) => b.n - a.n);
  if (ordered.length === 0) return sheet("Does applying them help?", h("p", {}, "None has been applied yet. Agents that read their improvements apply each one in a random share of their executions."));
  const drawn = ordered.filter((trial) => trial.looks.length > 0).slice(0, MOST_SEQUENCES);
  return sheet("Does applying them help?",
    drawn.length ? h("div", { class: "columns" }, drawn.map((trial) => sequence({
      title: `${nameOf(trial).split(": ")[0]}${trial.trial > 1 ? `, trial ${trial.trial}` : ""}`,
      summary: `${words(trial.state)}: ${points(trial.uplift)} approval, bounds ${between(trial.low, trial.high)}, ${plural(trial.n, "execution")}.`,
      looks: trial.looks,
    }))) : h("p", {}, "Nothing is measured yet: it takes 60 executions with a decision."),
    table([
      { name: "Recommendation", cell: (trial) => h("div", {}, nameOf(trial), h("div", { class: "small soft" }, trial.reason)) },
      { name: "State", cell: (trial) => stateOf(trial), sort: (trial) => trial.state },
      { name: "Applied", number: true, cell: (trial) => count(trial.n_applied), sort: (trial) => trial.n_applied },
      { name: "Held out", number: true, cell: (trial) => count(trial.n_held_out), sort: (trial) => trial.n_held_out },
      { name: "Approved with", number: true, cell: (trial) => percent(trial.success_rate), sort: (trial) => trial.success_rate },
      { name: "Without", number: true, cell: (trial) => percent(trial.success_rate_held_out), sort: (trial) => trial.success_rate_held_out },
      { name: "Uplift", number: true, cell: (trial) => points(trial.uplift), sort: (trial) => trial.uplift },
      { name: "Bounds", number: true, cell: (trial) => between(trial.low, trial.high) },
    ], ordered, { caption: "Every execution applies a recommendation or is held out by lot. The uplift is corrected for what was expected of each output, so it is not the difference of the two rates." }));
}

function course(reviewed) {
  if (reviewed.length === 0) return null;
  const weeks = byWeek(reviewed);
  const rows = weeks.map(({ week, decided, approval }) => ({ week, n: decided, value: approval }));
  const scores = weeks.map(({ week, outputs, score }) => ({ week, n: outputs, value: score }));
  return sheet("Week by week", h("div", { class: "columns" },
    weekly({ title: "Approved outputs", name: "Approved", rows, summary: "Share of the decided outputs that people approved, by the week of their first review." }),
    scores.some(({ value }) => value !== null) ? weekly({ title: "Mean overall score", name: "Score", rows: scores, shown: (value) => number(value), bounds: null, summary: "Raw points, mean over the outputs of the week." }) : null));
}

function findings(rows) {
  if (rows.length === 0) return sheet("What goes with good scores", h("p", {}, "No property of the output goes with the scores beyond chance, once reviewers' severity is taken out."));
  const strongest = rows.slice(0, MOST_FINDINGS);
  return sheet("What goes with good scores",
    forest({
      title: "Strongest findings",
      summary: `Correlation of a property with the severity-adjusted score of an aspect, with its 95 % interval; ${strongest.length} of ${rows.length}.`,
      unit: "correlation",
      rows: strongest.map((row) => ({ label: `${words(row.feature)} · ${words(row.aspect)}`, value: row.r, low: row.ci_low, high: row.ci_high, note: `q ${number(row.q_value, 3)}` })),
    }),
    table([
      { name: "Property", cell: (row) => words(row.feature), sort: (row) => row.feature },
      { name: "Aspect", cell: (row) => words(row.aspect), sort: (row) => row.aspect },
      { name: "r", number: true, cell: (row) => signed(row.r), sort: (row) => row.r },
      { name: "q", number: true, cell: (row) => (row.q_value < 0.001 ? "< 0.001" : number(row.q_value, 3)), sort: (row) => row.q_value },
      { name: "Found", cell: (row) => h("div", { class: "small" }, row.sentence, row.confounded_with_agent ? [" ", badge("differs within agents", "unsure")] : null) },
    ], rows, { caption: "Published findings; q is the false discovery rate at which each one is found.", most: 12 }));
}

function place(pattern) {
  const { feature, decision_point: point } = pattern.input_features;
  return `${words(feature)}${point ? ` at ${point}` : ""}`;
}

function curves(patterns) {
  const found = patterns.filter((pattern) => pattern.type === "quality_threshold" && pattern.output_characteristics.curve);
  if (found.length === 0) return null;
  return sheet("Thresholds", h("div", { class: "columns" }, found.slice(0, MOST_CURVES).map((pattern) => {
    const { curve, cut, cut_interval: cutInterval } = pattern.output_characteristics;
    const bins = curve.x.map((x, at) => ({ x, approval: curve.approval[at], observed: curve.observed[at], n: curve.n[at] }));
    return threshold({ feature: place(pattern), curve: bins, cut: cut ?? null, cutInterval, summary: pattern.sentence });
  })));
}

function patternTable(patterns) {
  const others = patterns.filter((pattern) => pattern.type !== "correlation_pattern");
  if (others.length === 0) return null;
  return sheet("Other patterns", table([
    { name: "Pattern", cell: (pattern) => pattern.sentence ?? pattern.description },
    { name: "Kind", cell: (pattern) => words(pattern.type), sort: (pattern) => pattern.type },
    { name: "Confidence", number: true, cell: (pattern) => certainty(pattern.confidence), sort: (pattern) => pattern.confidence },
    { name: "Outputs", number: true, cell: (pattern) => count(pattern.sample_size), sort: (pattern) => pattern.sample_size },
  ], others, { caption: "What sets approved outputs apart: decisions, thresholds, rules and words, most certain first.", most: 10 }));
}

function forecasts(outcomes) {
  if (outcomes.n_outputs === 0) return sheet("Forecasts and outcomes", h("p", {}, "No output of this agent has been reviewed after it was forecast."));
  const inside = outcomes.n_intervals ? `; ${percent(outcomes.n_inside / outcomes.n_intervals)} of ${plural(outcomes.n_intervals, "review")} lie inside their interval (meant: 90 %)` : "";
  return sheet("Forecasts and outcomes",
    outcomes.n_decided ? calibration({ bins: outcomes.calibration, summary: `${plural(outcomes.n_decided, "output")} with a decision after the forecast, calibration error ${number(outcomes.ece)}${inside}.` })
      : h("p", {}, "Nobody has decided about an output with a forecast yet."),
    table([
      { name: "Execution", cell: (row) => h("code", {}, row.execution_id) },
      { name: "P(approve)", number: true, cell: (row) => percent(row.p_approve) },
      { name: "Decision", cell: (row) => (row.approved === null ? DASH : row.approved ? badge("approved", "good") : badge("not approved", "bad")) },
      { name: "Expected score", number: true, cell: (row) => `${number(row.score, 1)} (${number(row.low, 1)} to ${number(row.high, 1)})` },
      { name: "Score", number: true, cell: (row) => number(row.review_score, 1) },
    ], outcomes.outcomes, { caption: "The latest reviews of outputs that were forecast." }));
}
