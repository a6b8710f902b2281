// The page: which view is shown, who may see it, where its numbers come from.

import { get, hasToken, keepToken, needsToken } from "./api.js";
import { settle } from "./charts.js";
import { h, outside, sheet } from "./dom.js";
import { ago, count, moment } from "./format.js";
import { startLearning } from "./learn.js";
import { startTheme } from "./theme.js";
import * as agent from "./views/agent.js";
import * as overview from "./views/overview.js";
import * as queue from "./views/queue.js";
import * as reviewers from "./views/reviewers.js";

const VIEWS = { overview, agent, reviewers, queue };
const NAMES = { "": "overview", agents: "agent", reviewers: "reviewers", queue: "queue" };
const LOOK_AGAIN_MS = 20_000;

const [view, notice, links, provenance] = ["view", "notice", "links", "provenance"].map((id) => document.getElementById(id));
let shown = 0, run = null, announced = null, pages = { dagster: "", mlflow: null };

/** Where the address leads: a view, and what it is about. */
function wanted() {
  const [name = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  let argument = rest.length ? rest.join("/") : null;
  try {
    argument = argument && decodeURIComponent(argument);
  } catch {
    argument = null;
  }
  return { name: NAMES[name] ?? "overview", argument };
}

async function show({ moved = true } = {}) {
  const ticket = ++shown;
  const { name, argument } = wanted();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view.setAttribute("aria-busy", "true");
  let parts;
  try {
    parts = (await needsToken()) ? [signIn()] : await filled(VIEWS[name], argument);
  } catch (problem) {
    if (problem.status === 401) keepToken(null);
    parts = problem.status === 401 ? [signIn(problem.message)] : [failed(problem)];
  }
  if (ticket !== shown) return;
  view.replaceChildren(...parts.filter(Boolean));
  view.removeAttribute("aria-busy");
  settle(view);
  const heading = view.querySelector("h1");
  document.title = heading ? `${heading.textContent} · feedback_pipeline` : "feedback_pipeline";
  if (moved && heading) {
    heading.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
}

async function filled(chosen, argument) {
  if (!pages.dagster) await showLinks();
  const parts = await chosen.show({ argument, links: pages });
  await showProvenance();
  return parts;
}

async function showLinks() {
  pages = await get("links");
  links.replaceChildren(outside(pages.dagster, "Dagster"), pages.mlflow ? outside(pages.mlflow, "MLflow") : "");
}

async function showProvenance() {
  const { provenance: from } = await get("agents", { limit: 1 });
  run = from.learning_run_id;
  provenance.replaceChildren(run === null ? "Nothing has been learned yet." :
    h("p", {}, `Learning run ${run} of ${moment(from.computed_at)}: ${count(from.n_reviews)} reviews of ${count(from.n_contents)} outputs, `,
      `UTC days from ${from.window.first ?? "the beginning"} to ${from.window.last ?? "today"}.`), tokenButton());
}

/** Another token, such as one that may start a pass. */
function tokenButton() {
  return hasToken() ? h("button", { type: "button", class: "quiet", click: () => { keepToken(null); show(); } }, "Other token") : "";
}

function failed(problem) {
  const again = h("button", { type: "button", click: () => show() }, "Try again");
  return sheet(problem.title ?? "This cannot be shown", h("p", { class: "bad", role: "alert" }, problem.message), h("div", {}, again));
}

function signIn(reason) {
  const token = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const enter = (event) => {
    event.preventDefault();
    if (keepToken(token.value)) show();
    else view.replaceChildren(signIn("A token has letters, digits and signs of ASCII only; this one has others."));
  };
  return sheet("Token needed",
    h("p", { class: reason ? "bad" : null, role: reason ? "alert" : null }, reason ?? "Reading takes a token with the scope read; \"Learn now\" one with the scope write. It is kept until this tab is closed."),
    h("form", { submit: enter }, h("label", { for: "token" }, "Token", token), h("button", {}, "Show")));
}

/** Says that something newer was learned; what is being read does not change under the reader. */
async function lookForNews() {
  if (document.hidden || view.getAttribute("aria-busy")) return;
  try {
    if (await needsToken()) return;
    const { provenance: from } = await get("agents", { limit: 1 });
    if ([run, announced].includes(from.learning_run_id) || notice.querySelector("progress")) return;
    announced = from.learning_run_id;
    const refresh = h("button", { type: "button", class: "quiet", click: () => { notice.replaceChildren(); show(); } }, "Show it");
    notice.replaceChildren(h("div", { class: "sheet" }, h("p", {}, `A newer learning run was published ${ago(from.computed_at)}. `, refresh)));
  } catch {
    // The next look, or whoever asks for a view, finds out.
  }
}

startTheme(document.getElementById("theme"));
startLearning(document.getElementById("learn"), notice, () => show({ moved: false }));
window.addEventListener("hashchange", () => {
  if (!notice.querySelector("progress")) notice.replaceChildren();
  show();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  view.focus();
});
window.setInterval(lookForNews, LOOK_AGAIN_MS);
show({ moved: false });
