// How all agents do, what waits, what was learned last, whether the forecasts still hold.

import { get, whole } from "../api.js";
import { badge, h, nameOf, outside, s, sheet, stateOf, tiles } from "../dom.js";
import { ago, between, count, DASH, moment, percent, plural, points, words } from "../format.js";
import { weekly } from "../pictures.js";
import { table } from "../table.js";
import { byWeek, mondays, share, total } from "../weeks.js";

const WEEKS = 12;
const LATELY = 4;
const ENOUGH = 10;

export const title = "Overview";

export async function show({ links }) {
  const [status, analytics, drift] = await Promise.all([
    whole("agents", "agents"),
    whole("feedback/analytics", "weeks", { weeks: WEEKS }),
    get("drift"),
  ]);
  if (status.agents.length === 0) return [h("div", { class: "head" }, h("h1", { tabindex: "-1" }, title)), beginning()];
  const calendar = mondays(analytics.weeks);
  const weeks = Map.groupBy(analytics.weeks, (week) => week.agent_name);
  const agents = status.agents.map((agent) => ({ ...agent, ...course(weeks.get(agent.agent_name) ?? [], calendar) }));
  return [
    h("div", { class: "head" }, h("h1", { tabindex: "-1" }, title)),
    facts(status, agents, drift, links),
    why(status),
    sheet("Agents", agentTable(agents)),
    together(byWeek(analytics.weeks, calendar)),
    whatHelps(analytics.effects),
  ];
}

function beginning() {
  return sheet("No agent has been reviewed yet",
    h("p", {}, "Send executions and reviews through the SDK or the HTTP API, or point FEEDBACK_DATABASE_URL at the database that has them. Learning starts by itself."),
    h("p", {}, h("code", {}, "feedback-pipeline demo"), " shows a simulated agency, learned from."));
}

function facts(status, agents, drift, links) {
  const { last_run: run, champion, provenance } = status;
  const waiting = agents.reduce((sum, agent) => sum + agent.pending, 0);
  return tiles([
    ["Agents", count(agents.length), null],
    ["Reviews learned from", count(provenance.n_reviews), provenance.n_contents === null ? null : plural(provenance.n_contents, "output")],
    ["Reviews waiting", count(waiting), waiting ? "changed since the last pass" : "everything is learned"],
    ["Last learning run", run ? ago(run.published_at) : "none yet", run ? ofRun(run, links) : null],
    ["Forecasts", champion ? `model ${champion.model_version}` : "no model yet", champion ? ofChampion(champion, links) : null],
    ["Drift", drift.alarm ? badge("alarm", "bad") : drift.weeks.length ? badge("none", "good") : DASH, drift.alarm ?? drift.reason ?? "reviews come out as forecast"],
  ]);
}

function ofRun(run, links) {
  const page = run.dagster_run_id ? outside(`${links.dagster}/runs/${run.dagster_run_id}`, "in Dagster") : null;
  return [h("time", { datetime: run.published_at }, moment(run.published_at)), page ? [" ", page] : null];
}

function ofChampion(champion, links) {
  const page = links.mlflow && champion.mlflow_run_id ? outside(`${links.mlflow}/#/runs/${champion.mlflow_run_id}`, "in MLflow") : null;
  return [words(champion.candidate), page ? [" ", page] : null];
}

/** Why a pass was last started by itself, or is not; and what could not be read. */
function why({ trigger, rejected }) {
  const refused = Object.entries(rejected ?? {});
  if (!trigger && refused.length === 0) return null;
  return sheet("Learning by itself",
    trigger ? h("p", {}, badge(words(trigger.kind)), " ", trigger.reason, h("span", { class: "soft" }, ` (since ${moment(trigger.decided_at)})`)) : null,
    refused.length ? h("p", { class: "soft" }, "Not learned from: ", refused.map(([reason, n]) => `${reason} (${count(n)})`).join(", "), ".") : null);
}

/** Approval over the weeks: the whole, the course, and the change where there is enough on both sides. */
function course(rows, calendar) {
  const weeks = byWeek(rows, calendar);
  const [late, before] = [weeks.slice(-LATELY), weeks.slice(-2 * LATELY, -LATELY)];
  const enough = Math.min(total(late, "decided"), total(before, "decided")) >= ENOUGH;
  return { weeks, approval: share(weeks), reviews: total(weeks, "reviews"), change: enough ? share(late) - share(before) : null };
}

function agentTable(agents) {
  const rows = [...agents].sort((a, b) => b.reviews - a.reviews || a.agent_name.localeCompare(b.agent_name));
  return table([
    { name: "Agent", cell: (agent) => h("a", { href: `#/agents/${encodeURIComponent(agent.agent_name)}` }, agent.agent_name), sort: (agent) => agent.agent_name },
    { name: "Approved", number: true, cell: (agent) => percent(agent.approval), sort: (agent) => agent.approval },
    { name: "Course", cell: (agent) => sparkline(agent) },
    { name: "Change", number: true, cell: (agent) => points(agent.change, 0), sort: (agent) => agent.change },
    { name: "Reviews", number: true, cell: (agent) => count(agent.reviews), sort: (agent) => agent.reviews },
    { name: "Waiting", number: true, cell: (agent) => count(agent.pending), sort: (agent) => agent.pending },
    { name: "Findings", number: true, cell: (agent) => count(agent.parts?.correlations?.published), sort: (agent) => agent.parts?.correlations?.published },
    { name: "Advice", number: true, cell: (agent) => count(agent.parts?.recommendations?.published), sort: (agent) => agent.parts?.recommendations?.published },
    { name: "State", cell: (agent) => (agent.status === "success" ? badge("learned", "good") : h("span", { class: "small" }, agent.reason ?? words(agent.status))) },
  ], rows, { caption: `Reviews and approval of ${WEEKS} weeks, the last one that of the newest review; change = the last ${LATELY} weeks against the ${LATELY} before.` });
}

function sparkline({ agent_name: name, weeks }) {
  const known = weeks.map(({ approval }, at) => ({ approval, at })).filter(({ approval }) => approval !== null);
  if (known.length < 2) return DASH;
  const place = known.map(({ approval, at }) => `${(120 * at) / (weeks.length - 1)},${26 - 24 * approval}`);
  const label = `${name}: approval ${percent(known[0].approval)} to ${percent(known.at(-1).approval)} over ${weeks.length} weeks`;
  return s("svg", { class: "spark", viewBox: "0 0 120 28", role: "img", "aria-label": label },
    s("polyline", { points: place.join(" "), fill: "none", stroke: "currentColor", "stroke-width": "2" }));
}

function together(weeks) {
  if (weeks.length === 0) return null;
  const rows = weeks.map(({ week, decided, approval }) => ({ week, n: decided, value: approval }));
  return h("section", { class: "sheet" }, h("h2", {}, "Approval of all agents"),
    weekly({ title: "Approved outputs by week", name: "Approved", rows, summary: `Share of the outputs that people approved, by the week of their first review; ${plural(rows.length, "week")}.` }));
}

function whatHelps(effects) {
  const measured = effects.filter((effect) => effect.n > 0).sort((a, b) => (b.low ?? -Infinity) - (a.low ?? -Infinity));
  if (measured.length === 0) return sheet("Does it help?", h("p", {}, "No recommendation has been applied yet. Agents that read their improvements apply each one in a random share of their executions; what that brings is shown here."));
  return sheet("Does it help?", table([
    { name: "Agent", cell: (effect) => h("a", { href: `#/agents/${encodeURIComponent(effect.agent_name)}` }, effect.agent_name), sort: (effect) => effect.agent_name },
    { name: "Recommendation", cell: nameOf },
    { name: "State", cell: (effect) => stateOf(effect), sort: (effect) => effect.state },
    { name: "Executions", number: true, cell: (effect) => count(effect.n), sort: (effect) => effect.n },
    { name: "Uplift", number: true, cell: (effect) => points(effect.uplift), sort: (effect) => effect.uplift },
    { name: "Bounds", number: true, cell: (effect) => between(effect.low, effect.high) },
  ], measured, { caption: "Approval with the recommendation less approval without it, by a randomised holdout; the 95 % bounds hold however often one looks.", most: 20 }));
}
